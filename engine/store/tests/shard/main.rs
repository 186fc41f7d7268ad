//! What one shard promises, claim by claim, through its public interface.

mod bench;
mod eviction;
mod expiry;
mod limits;
mod memory;
mod numbers;
mod uniques;
mod values;
