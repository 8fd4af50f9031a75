//! Quantities as upstream reads and prints them.

use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;

fn check(texts: &str, expect: Expect) {
    let mut out = String::new();
    for text in texts.split(' ') {
        match text.parse::<Quantity>() {
            Ok(quantity) => out += &format!("{text} = {quantity}\n"),
            Err(error) => out += &format!("{text}: {error}\n"),
        }
    }
    expect.assert_eq(&out);
}

#[test]
fn quantities_print_in_canonical_form() {
    check(
        "0 00 100m 1000m 1500m 0.1 1.5 1.5Gi 1024Mi 1000Mi 512 1025Ki 12e6 12E6 1e3 1E 1.25k 100k 0.5Gi 0.5Ki 128974848 129e6 129M 123Mi -1.5 +5 .5 5. 2000 1536Mi 0.0001Ki",
        expect![[r#"
            0 = 0
            00 = 0
            100m = 100m
            1000m = 1
            1500m = 1500m
            0.1 = 100m
            1.5 = 1500m
            1.5Gi = 1536Mi
            1024Mi = 1Gi
            1000Mi = 1000Mi
            512 = 512
            1025Ki = 1025Ki
            12e6 = 12e6
            12E6 = 12e6
            1e3 = 1e3
            1E = 1E
            1.25k = 1250
            100k = 100k
            0.5Gi = 512Mi
            0.5Ki = 512
            128974848 = 128974848
            129e6 = 129e6
            129M = 129M
            123Mi = 123Mi
            -1.5 = -1500m
            +5 = 5
            .5 = 500m
            5. = 5
            2000 = 2k
            1536Mi = 1536Mi
            0.0001Ki = 102400u
        "#]],
    );
}

#[test]
fn what_is_too_fine_rounds_up_and_what_is_too_large_is_capped() {
    check(
        "1n 0.1n 0.0000000001 1e-10 1e-400 -0.1n 9Ei 9223372036854775807 9223372036854775808 1e40 -1e40 99999999999999999999999999999999999999999999999999 8Ei 1.00000000000000000000000000000000001",
        expect![[r#"
            1n = 1n
            0.1n = 1n
            0.0000000001 = 1n
            1e-10 = 1e-9
            1e-400 = 1e-9
            -0.1n = -1n
            9Ei = 9223372036854775807
            9223372036854775807 = 9223372036854775807
            9223372036854775808 = 9223372036854775807
            1e40 = 9223372036854775807
            -1e40 = -9223372036854775807
            99999999999999999999999999999999999999999999999999 = 9223372036854775807
            8Ei = 9223372036854775807
            1.00000000000000000000000000000000001 = 1000000001n
        "#]],
    );
}

#[test]
fn what_is_no_quantity_says_why_in_upstreams_words() {
    check(
        "abc 1x 1.2.3 1mm 1Kib 1e 1ee3 1e3m k . -- 1Mib 10Mo",
        expect![[r#"
            abc: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1x: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1.2.3: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1mm: unable to parse quantity's suffix
            1Kib: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            1e: unable to parse quantity's suffix
            1ee3: unable to parse quantity's suffix
            1e3m: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            k: unable to parse numeric part of quantity
            .: unable to parse numeric part of quantity
            --: unable to parse quantity's suffix
            1Mib: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
            10Mo: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
        "#]],
    );
}

#[test]
fn values_round_up() {
    let quantity: Quantity = "100m".parse().unwrap();
    assert_eq!((quantity.value(), quantity.milli_value()), (1, 100));
    let quantity: Quantity = "1.5Gi".parse().unwrap();
    assert_eq!(quantity.value(), 1_610_612_736);
    assert_eq!("9Ei".parse::<Quantity>().unwrap().milli_value(), i64::MAX);
    assert_eq!(Quantity::from_value(&serde_json::json!(0.5)), "500m".parse());
}

fn any_quantity() -> impl Strategy<Value = Quantity> {
    (-1_000_000_000_i64..1_000_000_000, 0_usize..15).prop_map(|(number, unit)| {
        let units = ["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "e-3", "E0", "e-9", "e1"];
        format!("{number}{}", units[unit]).parse().unwrap()
    })
}

proptest! {
    #[test]
    fn the_canonical_form_is_the_same_quantity(quantity in any_quantity()) {
        let printed = quantity.to_string();
        let again: Quantity = printed.parse().unwrap();
        prop_assert_eq!(again, quantity);
        prop_assert_eq!(again.to_string(), printed);
    }

    #[test]
    fn a_sum_minus_one_part_is_the_other(left in any_quantity(), right in any_quantity()) {
        prop_assert_eq!(left.plus(right).minus(right), left);
        prop_assert_eq!(left.plus(right), right.plus(left));
    }

    #[test]
    fn order_agrees_with_difference(left in any_quantity(), right in any_quantity()) {
        prop_assert_eq!(left < right, left.minus(right).is_negative());
    }

    #[test]
    fn no_text_makes_it_panic(text in "[0-9.eEinumkKMGTP+-]{0,40}") {
        let _ = text.parse::<Quantity>().map(|quantity| quantity.to_string());
    }
}
