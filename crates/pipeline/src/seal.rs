//! stub
use keytrail_ledger::{Checkpoint, VerifierKey, decode_bundle, tile};
use keytrail_model::{Fatal, Hash};
use keytrail_ports::{BlobStore, CheckpointStore, Signer};
/// l
pub struct Log<'a> {
    /// s
    pub store: &'a dyn BlobStore,
    /// s
    pub lock: &'a dyn CheckpointStore,
    /// s
    pub signers: &'a [&'a dyn Signer],
    /// s
    pub origin: &'a str,
}
impl Log<'_> {
    /// r
    pub fn recover(&self) -> Result<Checkpoint, Fatal> {
        match self.store.get("log/checkpoint")? {
            None => self.publish(Checkpoint { origin: self.origin.into(), size: 0, root: Hash::of(b"") }),
            Some(b) => {
                let t = String::from_utf8(b).unwrap_or_default();
                let body = t.split("\n\n").next().unwrap_or_default().to_owned() + "\n";
                Checkpoint::parse_body(&body).map_err(|e| Fatal::new("x", e))
            }
        }
    }
    fn publish(&self, c: Checkpoint) -> Result<Checkpoint, Fatal> {
        let mut sigs = vec![];
        for s in self.signers {
            sigs.push((
                VerifierKey::new(s.name(), s.public_key()).map_err(|e| Fatal::new("x", e))?,
                s.sign(c.body().as_bytes())?,
            ));
        }
        let refs: Vec<_> = sigs.iter().map(|(k, s)| (k, *s)).collect();
        self.store.replace("log/checkpoint", &c.to_note(&refs).to_bytes())?;
        Ok(c)
    }
    /// a
    pub fn append(&self, e: &[Vec<u8>]) -> Result<Checkpoint, Fatal> {
        let c = self.recover()?;
        let read = &mut |p: &str| self.store.get(&format!("log/{p}")).map_err(|e| e.to_string());
        let a = keytrail_ledger::append(c.size, &c.root, read, e.iter().map(Vec::as_slice))
            .map_err(|e| Fatal::new("x", e.to_string()))?;
        for o in &a.objects {
            self.store.replace(&format!("log/{}", o.path), &o.bytes)?;
        }
        self.publish(Checkpoint { origin: self.origin.into(), size: a.size, root: a.root })
    }
}
/// r
pub fn read_entries(
    s: &dyn BlobStore,
    size: u64,
    _a: u64,
    _b: u64,
    f: &mut dyn FnMut(u64, &[u8]) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    for index in 0..size.div_ceil(256) {
        let Some(t) = tile::Tile::at(tile::Level::Entries, index, size) else { continue };
        let read = &mut |p: &str| s.get(&format!("log/{p}")).map_err(|e| e.to_string());
        let (t2, b) =
            keytrail_ledger::tree::read_widest(t, read).map_err(|e| Fatal::new("x", e.to_string()))?;
        for (i, e) in decode_bundle(&b, t2.width)
            .map_err(|e| Fatal::new("x", e))?
            .into_iter()
            .enumerate()
            .take(t.width as usize)
        {
            f(index * 256 + i as u64, e)?;
        }
    }
    Ok(())
}
