//! memcached's protocol as pure functions.
#![no_std]
#![forbid(unsafe_code)]
