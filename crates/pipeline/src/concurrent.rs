//! Calls that wait for a disk or a network, several at once.

use std::sync::atomic::{AtomicUsize, Ordering};

use keytrail_model::Fatal;

/// Calls at once. A file system writes its journal once for all who wait for it: 16 writers made small
/// files durable 15 times faster than one.
const AT_ONCE: usize = 16;

/// Calls `call` with every item; results are in the order of the items. After an error no further call
/// begins, and those under way are waited for.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    call: impl Fn(&T) -> Result<R, Fatal> + Sync,
) -> Result<Vec<R>, Fatal> {
    if items.len() < 2 {
        return items.iter().map(call).collect();
    }
    let next = AtomicUsize::new(0);
    let lane = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return Ok(done) };
            match call(item) {
                Ok(result) => done.push((at, result)),
                Err(fatal) => {
                    next.store(items.len(), Ordering::Relaxed);
                    return Err(fatal);
                }
            }
        }
    };
    let mut done = std::thread::scope(|scope| {
        let lanes: Vec<_> = (0..AT_ONCE.min(items.len())).map(|_| scope.spawn(lane)).collect();
        let mut all = Vec::with_capacity(items.len());
        for lane in lanes {
            let ended = lane.join().map_err(|_| Fatal::new("Fatal.Internal", "a writer ended early"))?;
            all.extend(ended?);
        }
        Ok::<_, Fatal>(all)
    })?;
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Results that are in memory at once.
const HELD: usize = 32;

/// As [`each`], for results that are used one after another, in the order of the items, and are too large or too many to
/// be held together.
pub(crate) fn in_order<T: Sync, R: Send>(
    items: &[T],
    call: impl Fn(&T) -> Result<R, Fatal> + Sync,
    mut then: impl FnMut(&T, R) -> Result<(), Fatal>,
) -> Result<(), Fatal> {
    for part in items.chunks(HELD) {
        for (item, result) in part.iter().zip(each(part, &call)?) {
            then(item, result)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_used_in_order() {
        let items: Vec<u32> = (0..100).collect();
        let mut seen = Vec::new();
        let used = in_order(
            &items,
            |n| Ok(n * 2),
            |n, doubled| {
                assert_eq!(doubled, n * 2);
                seen.push(*n);
                if *n == 70 { Err(Fatal::new("Fatal.Test", "seventy")) } else { Ok(()) }
            },
        );
        assert!(used.is_err() && seen == items[..71]);
    }

    #[test]
    fn results_are_in_order_and_an_error_ends_it() {
        let items: Vec<u32> = (0..1_000).collect();
        let calls = AtomicUsize::new(0);
        let doubled = each(&items, |n| Ok(n * 2)).unwrap();
        assert!(doubled.iter().zip(&items).all(|(d, n)| *d == n * 2) && doubled.len() == 1_000);
        let failed = each(&items, |n| {
            calls.fetch_add(1, Ordering::Relaxed);
            if *n == 3 { Err(Fatal::new("Fatal.Test", "three")) } else { Ok(*n) }
        });
        assert_eq!(failed.unwrap_err().code, "Fatal.Test");
        assert!(calls.into_inner() < 1_000);
    }
}
