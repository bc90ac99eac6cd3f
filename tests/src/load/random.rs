//! Seeded random numbers, the same on every machine: integers only.

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Random(u64);

/// The finalizer of SplitMix64: a bijection of 64 bits.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Random {
    /// The generator of one thing, e.g. of event `index` under `seed`.
    pub fn of(seed: u64, index: u64) -> Self {
        Self(mix(mix(seed.wrapping_add(0x9E37_79B9_7F4A_7C15)) ^ index))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// Uniform in `0..n`; `n` is not 0.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// True `percent` times in a hundred.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// Uniform pick.
    pub fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len() as u64) as usize]
    }

    /// A rank in `0..n` by Zipf's law, nearly: each doubling of the rank is as likely as the one before.
    pub fn zipf(&mut self, n: u64) -> u64 {
        let doublings = u64::from(u64::BITS - n.leading_zeros());
        let low = (1 << self.below(doublings)) - 1;
        low + self.below((low + 1).min(n - low))
    }

    /// Picks by weight; the weights' sum is not 0.
    pub fn weighted<'a, T>(&mut self, items: &'a [(u32, T)]) -> &'a T {
        let total: u64 = items.iter().map(|(w, _)| u64::from(*w)).sum();
        let mut at = self.below(total);
        for (weight, item) in items {
            let weight = u64::from(*weight);
            if at < weight {
                return item;
            }
            at -= weight;
        }
        &items[0].1
    }

    /// Lower-case hex digits.
    pub fn hex(&mut self, digits: usize) -> String {
        self.text(digits, b"0123456789abcdef")
    }

    /// A UUID of version 4.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.bits(), self.bits());
        uuid(high, low)
    }

    /// Characters of `alphabet`, which has a power of two of them, 64 at most.
    pub fn text(&mut self, len: usize, alphabet: &[u8]) -> String {
        let bits = alphabet.len().trailing_zeros();
        let per_draw = (u64::BITS / bits) as usize;
        let mut out = String::with_capacity(len);
        let mut drawn = 0;
        for i in 0..len {
            if i % per_draw == 0 {
                drawn = self.bits();
            }
            out.push(char::from(alphabet[(drawn & (alphabet.len() as u64 - 1)) as usize]));
            drawn >>= bits;
        }
        out
    }

    /// Base64 of random bytes, without padding.
    pub fn base64(&mut self, len: usize) -> String {
        self.text(len, b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    }

    /// Upper-case letters and digits, as AWS makes its ids (base32).
    pub fn base32(&mut self, len: usize) -> String {
        self.text(len, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    }
}

/// A UUID of version 4 that is different for each `unique` (48 bits of it lead, 16 end it).
pub fn uuid(unique: u64, filling: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:08x}{:04x}",
        unique >> 32,
        (unique >> 16) & 0xFFFF,
        filling & 0xFFF,
        0x8000 | ((filling >> 12) & 0x3FFF),
        (filling >> 26) & 0xFFFF_FFFF,
        unique & 0xFFFF,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_stays_in_range_and_favours_low_ranks() {
        let mut random = Random::of(1, 2);
        for n in [1, 2, 3, 7, 8, 1000] {
            let draws: Vec<u64> = (0..10_000).map(|_| random.zipf(n)).collect();
            assert!(draws.iter().all(|r| *r < n));
            let first = draws.iter().filter(|r| **r == 0).count();
            assert!(first >= 800, "rank 0 of {n} came {first} times in 10000");
        }
    }

    #[test]
    fn uuids_keep_all_bits_of_what_makes_them_unique() {
        let a = uuid(0x0123_4567_89ab_cdef, 0);
        assert_eq!(a, "01234567-89ab-4000-8000-00000000cdef");
    }

    #[test]
    fn numbers_are_the_same_everywhere() {
        let mut random = Random::of(7, 9);
        assert_eq!(random.bits(), Random::of(7, 9).bits());
        assert_eq!(Random(0).bits(), 0xE220_A839_7B1D_CDAF);
    }
}
