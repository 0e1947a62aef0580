use super::*;

/// Values that h2 accepts, and values that it does not.
const USABLE: [&str; 6] = ["localhost", "localhost:50051", "[::1]:1", "user@host", "127.0.0.1", "a_b"];
const UNUSABLE: [&str; 6] = ["tmp%2Fgw.sock", "/tmp/gw.sock", "unix:/x", "/tmp/gw\u{e9}.sock", "a b", "#{}"];

/// The first byte or bytes of a field: inserted, not inserted, never indexed; with the name by its index or in the block.
fn heads() -> Vec<Vec<u8>> {
    let raw = [&[10], AUTHORITY].concat();
    let coded = [&[0x88], CODED_AUTHORITY].concat();
    let mut heads = vec![vec![0x41], vec![0x01], vec![0x11]];
    for first in [0x40, 0x00, 0x10] {
        heads.extend([&raw, &coded].map(|name| [&[first], &name[..]].concat()));
    }
    heads
}

fn raw(text: &[u8]) -> Vec<u8> {
    [&integer(text.len(), 7), text].concat()
}

fn coded(text: &[u8]) -> Vec<u8> {
    let code = huffman::encode(text);
    let mut literal = [&integer(code.len(), 7)[..], &code].concat();
    literal[0] |= 0x80;
    literal
}

fn rewritten(block: &[u8]) -> Option<Vec<u8>> {
    rewrite(block, &mut Names::default()).unwrap()
}

#[test]
fn an_unusable_value_is_replaced_by_a_usable_one_of_its_length_in_every_form() {
    assert_eq!(huffman::encode(AUTHORITY), CODED_AUTHORITY);
    // Other fields are around it: a size update, an indexed one, a token that is never indexed.
    let before = [0x3f, 0x45, 0x83];
    let after = [&[0x10, 12][..], b"x-auth-token", &raw(b"/secret\xff")].concat();
    for head in heads() {
        for text in UNUSABLE {
            let usable = raw(&vec![b'a'; text.len()]);
            for value in [raw(text.as_bytes()), coded(text.as_bytes())] {
                let block = [&before, &head[..], &value, &after].concat();
                let expected = [&before, &head[..], &usable, &after].concat();
                assert_eq!(rewritten(&block), Some(expected.clone()), "{head:x?} {text}");
                assert_eq!(rewritten(&expected), None);
            }
        }
        for text in USABLE {
            for value in [raw(text.as_bytes()), coded(text.as_bytes())] {
                assert_eq!(rewritten(&[&before, &head[..], &value, &after].concat()), None, "{text}");
            }
        }
    }
}

#[test]
fn a_long_value_keeps_its_length() {
    for length in [126, 127, 128, 254, 255, 40_000] {
        let text = vec![b'/'; length];
        for value in [raw(&text), coded(&text)] {
            let block = [&[0x41], &value[..]].concat();
            assert_eq!(rewritten(&block), Some([&[0x41], &raw(&vec![b'a'; length])[..]].concat()), "{length}");
        }
    }
}

#[test]
fn an_empty_value_is_left_out() {
    for empty in [&[0x81][..], &[0x01, 0], &[0x11, 0x80], &[&[0, 10], AUTHORITY, &[0]].concat()] {
        assert_eq!(rewritten(&[&[0x83], empty, &[0x87]].concat()), Some(vec![0x83, 0x87]), "{empty:x?}");
    }
    // No replacement would have its size in the table.
    assert_eq!(rewritten(&[0x41, 0]), None);
}

#[test]
fn fields_of_other_names_pass() {
    // By the static table, by the block, and by the dynamic table.
    let fields =
        [&[0x44][..], &raw(b"/p"), &[0x40], &raw(b"host"), &raw(b"/h"), &[0x7e], &raw(b"/i"), &[0xbe]].concat();
    assert_eq!(rewritten(&fields), None);
}

#[test]
fn a_name_in_the_dynamic_table_is_found_at_every_index() {
    let mut names = Names::default();
    let inserted = [&[0x41][..], &raw(b"/")].concat();
    assert!(rewrite(&inserted, &mut names).unwrap().is_some());
    for others in 0..128 {
        for (first, prefix) in [(0x40, 6), (0x00, 4), (0x10, 4)] {
            let mut field = integer(62 + others, prefix);
            field[0] |= first;
            let block = [&field[..], &raw(b"/x")].concat();
            let expected = [&field[..], &raw(b"aa")].concat();
            assert_eq!(rewrite(&block, &mut names.clone()), Ok(Some(expected)), "{others}");
            // The entries beside it have other names.
            for index in [61 + others, 63 + others] {
                let mut field = integer(index, prefix);
                field[0] |= first;
                assert_eq!(rewrite(&[&field[..], &raw(b"/x")].concat(), &mut names.clone()), Ok(None));
            }
        }
        assert_eq!(rewrite(&[&[0x40][..], &raw(b"n"), &raw(b"v")].concat(), &mut names), Ok(None));
    }
    // It can't be in the table any more.
    let block = [&[0x0f, 0xaf, 0x01][..], &raw(b"/x")].concat();
    assert_eq!(rewrite(&block, &mut names), Ok(None));
}

#[test]
fn a_block_that_is_cut_or_malformed_is_told() {
    let whole =
        [&[0x3f, 0x45, 0x40, 1, b'n'][..], &raw(b"v"), &[0x41], &coded(b"tmp%2Fgw.sock"), &[0xff, 0x01]].concat();
    let ends = [2, 7, whole.len() - 2];
    for cut in 1..whole.len() {
        let result = rewrite(&whole[..cut], &mut Names::default());
        assert_eq!(result.is_err(), !ends.contains(&cut), "{cut}");
    }
    for malformed in [&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01][..], &[0x41, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x00]] {
        assert_eq!(rewrite(malformed, &mut Names::default()), Err(Malformed), "{malformed:x?}");
    }
}
