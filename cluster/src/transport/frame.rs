//! Frames: how calls and answers share one stream of bytes.
//!
//! ```text
//! 0     4          12     13
//! | len | id       | kind | body
//! ```
//! Numbers are little-endian; `len` counts the body only. Answers carry the id of their call, in any order. A body is a
//! message in its envelope (`proto::wire`), so a frame has no checksum of its own.

use super::Rejected;

/// Bytes of a frame before its body.
pub const HEAD_BYTES: usize = 13;
/// What a frame may have while the other side is a stranger: a [`super::Hello`] and its envelope.
pub const HELLO_LIMIT: usize = (1 << 10) + troupe_proto::wire::HEAD_BYTES;

/// What a frame is. Numbers are given for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who the sender is; the first frame in each direction, and the only one of its kind.
    Hello = 0,
    /// A call to be served.
    Call = 1,
    /// The answer to it.
    Answer = 2,
    /// It was not served; the body is the number of a [`Rejected`]. In place of a Hello: no connection.
    Refuse = 3,
    /// It may have been served, but there is no answer.
    Fail = 4,
    /// Asks for a sign of life.
    Ping = 5,
    /// The sign of life.
    Pong = 6,
}

impl Kind {
    const fn read(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Hello),
            1 => Some(Self::Call),
            2 => Some(Self::Answer),
            3 => Some(Self::Refuse),
            4 => Some(Self::Fail),
            5 => Some(Self::Ping),
            6 => Some(Self::Pong),
            _ => None,
        }
    }

    /// The most bytes a body of this kind may have, where calls and answers may have `limit`.
    const fn limit(self, limit: usize) -> usize {
        match self {
            Self::Hello => HELLO_LIMIT,
            Self::Call | Self::Answer => limit,
            Self::Refuse => 1,
            Self::Fail | Self::Ping | Self::Pong => 0,
        }
    }
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The call it belongs to; 0 where there is none.
    pub id: u64,
    /// What it is.
    pub kind: Kind,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl Frame {
    /// A frame of a call.
    pub const fn new(kind: Kind, id: u64, body: Vec<u8>) -> Self {
        Self { id, kind, body }
    }

    /// Says that a call, or with id 0 the connection, is refused.
    pub fn refuse(id: u64, reason: Rejected) -> Self {
        Self { id, kind: Kind::Refuse, body: vec![number(reason)] }
    }

    /// The reason that a [`Kind::Refuse`] carries; one that this version does not know is as good as "no room".
    pub fn reason(&self) -> Rejected {
        self.body.first().and_then(|at| Rejected::ALL.get(usize::from(*at))).copied().unwrap_or(Rejected::Busy)
    }

    /// Its bytes before the body, or `None` if the body is too long for any frame.
    pub fn head(&self) -> Option<[u8; HEAD_BYTES]> {
        let mut head = [0; HEAD_BYTES];
        head[..4].copy_from_slice(&u32::try_from(self.body.len()).ok()?.to_le_bytes());
        head[4..12].copy_from_slice(&self.id.to_le_bytes());
        head[12] = self.kind as u8;
        Some(head)
    }
}

fn number(reason: Rejected) -> u8 {
    let at = Rejected::ALL.iter().position(|known| *known == reason);
    at.and_then(|at| u8::try_from(at).ok()).unwrap_or(u8::MAX)
}

/// Puts frames together from pieces of any size. What a frame announces is checked against its limit before a byte is
/// set aside for it, and room grows with what has arrived: a lie about the length costs its author the bytes.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    head: [u8; HEAD_BYTES],
    has: usize,
    rest: Option<(u64, Kind, usize)>,
    body: Vec<u8>,
}

impl Decoder {
    /// A decoder of frames whose calls and answers have at most `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit, head: [0; HEAD_BYTES], has: 0, rest: None, body: Vec::new() }
    }

    /// Whether the next frame has begun.
    pub const fn is_inside(&self) -> bool {
        self.has > 0
    }

    /// Takes from `input` what belongs to the frame under way, and gives that frame if it is whole now. After an error
    /// the stream means nothing any more.
    ///
    /// # Errors
    /// [`Rejected::Malformed`] for a frame of no known kind, [`Rejected::TooLarge`] for one over its limit.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Frame>, Rejected> {
        if self.rest.is_none() {
            let missing = HEAD_BYTES - self.has;
            let (now, later) = input.split_at(missing.min(input.len()));
            if let Some(room) = self.head.get_mut(self.has..self.has + now.len()) {
                room.copy_from_slice(now);
            }
            self.has += now.len();
            *input = later;
            if self.has < HEAD_BYTES {
                return Ok(None);
            }
            self.rest = Some(self.announced()?);
        }
        let Some((id, kind, len)) = self.rest else { return Ok(None) };
        let missing = len - self.body.len();
        let (now, later) = input.split_at(missing.min(input.len()));
        self.body.extend_from_slice(now);
        *input = later;
        if self.body.len() < len {
            return Ok(None);
        }
        self.has = 0;
        self.rest = None;
        Ok(Some(Frame { id, kind, body: std::mem::take(&mut self.body) }))
    }

    fn announced(&self) -> Result<(u64, Kind, usize), Rejected> {
        let [l0, l1, l2, l3, i0, i1, i2, i3, i4, i5, i6, i7, kind] = self.head;
        let kind = Kind::read(kind).ok_or(Rejected::Malformed)?;
        let len = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| Rejected::TooLarge)?;
        if len > kind.limit(self.limit) {
            return Err(Rejected::TooLarge);
        }
        Ok((u64::from_le_bytes([i0, i1, i2, i3, i4, i5, i6, i7]), kind, len))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(frame: &Frame) -> Vec<u8> {
        [frame.head().unwrap().as_slice(), &frame.body].concat()
    }

    #[test]
    fn a_frame_looks_like_this_for_ever() {
        let call = Frame::new(Kind::Call, 0x0102_0304_0506_0708, b"ask".to_vec());

        assert_eq!(bytes(&call), b"\x03\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01\x01ask");
        assert_eq!(bytes(&Frame::refuse(1, Rejected::WrongNode)), b"\x01\0\0\0\x01\0\0\0\0\0\0\0\x03\x01");
    }

    #[test]
    fn every_reason_survives_the_wire_and_an_unknown_one_is_harmless() {
        for reason in Rejected::ALL {
            assert_eq!(Frame::refuse(7, reason).reason(), reason);
        }
        assert_eq!(Frame::new(Kind::Refuse, 7, vec![200]).reason(), Rejected::Busy);
        assert_eq!(Frame::new(Kind::Refuse, 7, vec![]).reason(), Rejected::Busy);
    }

    #[test]
    fn a_frame_over_its_limit_is_refused_by_its_head_alone() {
        let head = |len: u32, kind: u8| [&len.to_le_bytes()[..], &[0; 8], &[kind]].concat();
        let take = |bytes: Vec<u8>| Decoder::new(100).take(&mut bytes.as_slice());

        assert_eq!(take(head(101, 1)), Err(Rejected::TooLarge));
        assert_eq!(take(head(u32::MAX, 2)), Err(Rejected::TooLarge));
        assert_eq!(take(head(2, 3)), Err(Rejected::TooLarge));
        assert_eq!(take(head(1, 5)), Err(Rejected::TooLarge));
        assert_eq!(take(head(2000, 0)), Err(Rejected::TooLarge));
        assert_eq!(take(head(0, 7)), Err(Rejected::Malformed));
        assert_eq!(take(head(100, 1)), Ok(None));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            sent in prop::collection::vec((any::<u64>(), 1_u8..3, prop::collection::vec(any::<u8>(), 0..40)), 1..6),
            cut in 1_usize..30,
        ) {
            let sent: Vec<_> =
                sent.into_iter().map(|(id, kind, body)| Frame::new(Kind::read(kind).unwrap(), id, body)).collect();
            let stream: Vec<u8> = sent.iter().flat_map(bytes).collect();

            let mut decoder = Decoder::new(64);
            let mut heard = Vec::new();
            for mut piece in stream.chunks(cut) {
                while let Some(frame) = decoder.take(&mut piece).unwrap() {
                    heard.push(frame);
                }
                prop_assert!(piece.is_empty());
            }

            prop_assert_eq!(heard, sent);
            prop_assert!(!decoder.is_inside());
        }
    }
}
