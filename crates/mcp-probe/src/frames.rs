//! Frames of the WebSocket protocol, as a client writes and reads them. Without extensions: none is ever offered.

/// The bit of a frame that ends its message, and the one that says that it is masked.
const BIT: u8 = 0x80;
/// Instead of a length: it stands in the two bytes that follow.
const MEDIUM: u8 = 0x7e;
/// Instead of a length: it stands in the eight bytes that follow.
const LONG: u8 = 0x7f;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// More of the message before.
    More,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// A frame of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// The message ends with it.
    pub is_last: bool,
    pub payload: Vec<u8>,
}

/// What comes is no frame of a server, or a longer one than anybody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Kind {
    const ALL: [(u8, Self); 6] = [
        (0, Self::More),
        (1, Self::Text),
        (2, Self::Binary),
        (8, Self::Close),
        (9, Self::Ping),
        (10, Self::Pong),
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or(0, |(code, _)| *code)
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// A whole message in one frame. Clients mask what they send, so that nothing in between takes it for HTTP.
pub fn written(kind: Kind, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![BIT | kind.code()];
    let length = payload.len();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < MEDIUM => frame.push(BIT | short),
        (_, Ok(medium)) => {
            frame.push(BIT | MEDIUM);
            frame.extend(medium.to_be_bytes());
        }
        _ => {
            frame.push(BIT | LONG);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Takes the first frame out of what was read so far; `None` while it is not whole. None is longer than `limit`.
pub fn read(bytes: &mut Vec<u8>, limit: usize) -> Result<Option<Frame>, Broken> {
    let &[first, second, ..] = bytes.as_slice() else { return Ok(None) };
    // Bits of extensions, and masks, which servers do not use.
    if first & 0x70 != 0 || second & BIT != 0 {
        return Err(Broken);
    }
    let (_, kind) = *Kind::ALL.iter().find(|(code, _)| *code == first & 0x0f).ok_or(Broken)?;
    let (head, length) = match second {
        MEDIUM => {
            let Some(length) = bytes.get(2..4) else { return Ok(None) };
            (4, length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        }
        LONG => {
            let Some(length) = bytes.get(2..10) else { return Ok(None) };
            (10, length.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
        }
        length => (2, u64::from(length)),
    };
    let is_last = first & BIT != 0;
    let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(Broken)?;
    if kind.is_control() && (!is_last || length > 125) {
        return Err(Broken);
    }
    if bytes.len() < head + length {
        return Ok(None);
    }
    let rest = bytes.split_off(head + length);
    let payload = std::mem::replace(bytes, rest).split_off(head);
    Ok(Some(Frame { kind, is_last, payload }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server writes it: without the mask.
    fn by_a_server(kind: Kind, payload: &[u8]) -> Vec<u8> {
        let mut frame = written(kind, payload, [0; 4]);
        let head = match payload.len() {
            0..126 => 2,
            126..65536 => 4,
            _ => 10,
        };
        frame[1] &= 0x7f;
        frame.drain(head..head + 4);
        frame
    }

    #[test]
    fn frames_of_every_length_are_read_as_they_were_written_wherever_they_are_cut() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..=u8::MAX).cycle().take(length).collect();
            let whole = by_a_server(Kind::Text, &payload);
            for size in [1, 3, 7, 4096, whole.len()] {
                let (mut bytes, mut frames) = (Vec::new(), Vec::new());
                for piece in whole.chunks(size) {
                    bytes.extend(piece);
                    frames.extend(read(&mut bytes, 1 << 20).expect("it is a frame"));
                }
                let expected = Frame { kind: Kind::Text, is_last: true, payload: payload.clone() };
                assert!(frames == [expected] && bytes.is_empty(), "{length} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_a_client_sends_is_masked() {
        assert_eq!(
            written(Kind::Ping, b"abc", [1, 2, 3, 4]),
            [0x89, 0x83, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2, b'c' ^ 3]
        );
    }

    #[test]
    fn what_is_no_frame_of_a_server_is_told() {
        let too_long = [0x81, 127, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
        for bytes in [
            &[0xf1, 0][..],
            &[0x83, 0],
            &[0x81, 0x81, 0, 0, 0, 0, 0],
            &[0x09, 0],
            &[0x89, 126, 0, 126],
            &too_long,
        ] {
            assert_eq!(read(&mut bytes.to_vec(), 1 << 20), Err(Broken), "{bytes:x?}");
        }
        for bytes in [&[][..], &[0x81], &[0x81, 126, 0], &[0x81, 127, 0], &[0x81, 5, b'a']] {
            assert_eq!(read(&mut bytes.to_vec(), 1 << 20), Ok(None), "{bytes:x?}");
        }
    }
}
