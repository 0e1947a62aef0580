//! The invariants of the filter on a Unix socket. Shared by the fuzz target and the tests.

use apig_grpc_gateway::bench_support::{MAX_WAITING, filter_authority};

/// Checks the bytes that h2 reads for these bytes of a client. The first one says how the others are cut.
pub(crate) fn check(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    let (whole, _) = filter_authority([bytes]);
    // A string is longer without its Huffman code, by less than its length.
    assert!(whole.len() <= 2 * bytes.len(), "{} bytes for {}", whole.len(), bytes.len());
    for size in [1, usize::from(*cut) + 1] {
        let (read, waiting) = filter_authority(bytes.chunks(size));
        assert!(read == whole, "other bytes in pieces of {size}");
        assert!(waiting < MAX_WAITING, "{waiting} bytes wait");
    }
    let (again, _) = filter_authority([&whole[..]]);
    assert!(again == whole, "something was left to replace");
}
