//! Packets of the binary protocol as bytes, as either side sends them. Shared by the tests inside the crate and by those
//! around it.

/// What a packet says; its lengths are true.
#[derive(Clone, Copy, Default)]
pub struct Packet<'a> {
    /// [`REQUEST`], or another one of a reply.
    pub magic: u8,
    pub opcode: u8,
    pub status: u16,
    pub opaque: u32,
    pub cas: u64,
    pub extras: &'a [u8],
    pub key: &'a [u8],
    pub value: &'a [u8],
}

/// How a request begins.
pub const REQUEST: u8 = 0x80;

impl Packet<'_> {
    /// The header and what is behind it.
    pub fn bytes(&self) -> Vec<u8> {
        let Self {
            extras, key, value, ..
        } = *self;
        let body_bytes = (extras.len() + key.len() + value.len()) as u32;
        let mut bytes = vec![self.magic, self.opcode];
        bytes.extend((key.len() as u16).to_be_bytes());
        bytes.extend([extras.len() as u8, 0]);
        bytes.extend(self.status.to_be_bytes());
        bytes.extend(body_bytes.to_be_bytes());
        bytes.extend(self.opaque.to_be_bytes());
        bytes.extend(self.cas.to_be_bytes());
        [&bytes, extras, key, value].concat()
    }
}
