//! The developer's hands.
fn main() {}
