//! Bounded reading of little-endian protocol bytes.

/// Bytes that are not what their event type promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(pub(super) &'static str);

const SHORT: Malformed = Malformed("event ends too early");

/// A cursor over the bytes of an event. Never reads past the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Goes on reading the same bytes at an offset noted earlier.
    pub(super) fn rewound(&self, at: usize) -> Self {
        Self { bytes: self.bytes, at }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        self.at = self.bytes.len();
        rest
    }

    #[inline]
    pub(super) fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(n).ok_or(SHORT)?;
        let taken = self.bytes.get(self.at..end).ok_or(SHORT)?;
        self.at = end;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(super) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Unsigned little-endian integer of 1 to 8 bytes.
    #[inline]
    pub(super) fn uint(&mut self, width: usize) -> Result<u64, Malformed> {
        let mut wide = [0; 8];
        wide.get_mut(..width)
            .ok_or(Malformed("integer wider than 8 bytes"))?
            .copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Unsigned big-endian integer of 1 to 8 bytes.
    #[inline]
    pub(super) fn uint_be(&mut self, width: usize) -> Result<u64, Malformed> {
        if width > 8 {
            return Err(Malformed("integer wider than 8 bytes"));
        }
        Ok(self.take(width)?.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    }

    /// The protocol's length-encoded integer.
    pub(super) fn lenenc(&mut self) -> Result<usize, Malformed> {
        let wide = match self.u8()? {
            0xfc => self.uint(2)?,
            0xfd => self.uint(3)?,
            0xfe => self.u64()?,
            0xfb | 0xff => return Err(Malformed("length marker that is not a length")),
            short => u64::from(short),
        };
        usize::try_from(wide).map_err(|_| SHORT)
    }

    /// Length-encoded integer, then that many bytes.
    pub(super) fn lenenc_bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = self.lenenc()?;
        self.take(length)
    }

    /// A length of `width` bytes, then that many bytes.
    #[inline]
    pub(super) fn prefixed(&mut self, width: usize) -> Result<&'a [u8], Malformed> {
        let length = usize::try_from(self.uint(width)?).map_err(|_| SHORT)?;
        self.take(length)
    }
}

/// Bit `index` of a bitmap whose lowest bit comes first; bits beyond it are unset.
#[inline]
pub(super) fn bit(map: &[u8], index: usize) -> bool {
    map.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1)
}
