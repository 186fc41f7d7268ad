//! What an exptime on the wire means. It names a time only together with a clock, which is the caller's.

/// Largest exptime, in seconds, that counts from now: 30 days. Larger ones are seconds since 1970.
pub const RELATIVE_MAX_SECONDS: u32 = 60 * 60 * 24 * 30;

/// An exptime with its meaning made explicit.
///
/// ```
/// use strata_protocol::Expiry;
/// assert_eq!(Expiry::from_exptime(0), Expiry::Never);
/// assert_eq!(Expiry::from_exptime(-1), Expiry::Immediate);
/// assert_eq!(Expiry::from_exptime(2_592_000), Expiry::Relative(2_592_000));
/// assert_eq!(Expiry::from_exptime(2_592_001), Expiry::Absolute(2_592_001));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// The item has no deadline.
    Never,
    /// The deadline is this many seconds from now; 1 to [`RELATIVE_MAX_SECONDS`].
    Relative(u32),
    /// The deadline is this many seconds after the start of 1970. It may have passed.
    Absolute(u32),
    /// The item is already expired.
    Immediate,
}

impl Expiry {
    /// Reads an exptime as memcached does. What lies beyond 32 bits of seconds is the latest time they can name.
    pub fn from_exptime(exptime: i64) -> Self {
        match u32::try_from(exptime) {
            Ok(0) => Expiry::Never,
            Ok(seconds) if seconds <= RELATIVE_MAX_SECONDS => Expiry::Relative(seconds),
            Ok(seconds) => Expiry::Absolute(seconds),
            Err(_) if exptime < 0 => Expiry::Immediate,
            Err(_) => Expiry::Absolute(u32::MAX),
        }
    }
}
