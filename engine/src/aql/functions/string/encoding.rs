//! Checksums, hashes and encodings of strings; tokens made by chance.

use super::super::{Context, Function, impure, pure};
use super::Called;
use crate::aql::value::Value;
use crate::auth::hex;
use crate::http::percent_encode;
use base64::Engine;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use std::net::Ipv4Addr;

const TOKEN_CHARACTERS_MAX: i64 = 65_536;

macro_rules! hash {
    ($name:literal, $hasher:ty) => {
        pure($name, 1, 1, |_, args| Ok(hex(&<$hasher>::digest(args[0].to_string().as_bytes())).into()))
    };
}

pub(super) const FUNCTIONS: &[Function] = &[
    pure("CRC32", 1, 1, |_, args| Ok(format!("{:X}", crc32c(args[0].to_string().as_bytes())).into())),
    pure("ENCODE_URI_COMPONENT", 1, 1, |_, args| Ok(percent_encode(&args[0].to_string(), b"-_.!~*'()").into())),
    pure("FNV64", 1, 1, |_, args| Ok(format!("{:X}", fnv64(args[0].to_string().as_bytes())).into())),
    pure("IPV4_FROM_NUMBER", 1, 1, |context, args| {
        match args[0].as_double().filter(|number| number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(number))
        {
            Some(number) => Ok(Ipv4Addr::from_bits(number as u32).to_string().into()),
            None => context.invalid_type(),
        }
    }),
    pure("IPV4_TO_NUMBER", 1, 1, |context, args| match ipv4(&args[0]) {
        Some(address) => Ok(Value::Int(i64::from(address.to_bits()))),
        None => context.invalid_type(),
    }),
    pure("IS_IPV4", 1, 1, |_, args| Ok(ipv4(&args[0]).is_some().into())),
    pure("JSON_PARSE", 1, 1, |context, args| {
        match args[0].as_str().and_then(|text| Value::parse(text.as_bytes()).ok()) {
            Some(value) => Ok(value),
            None => context.invalid_type(),
        }
    }),
    pure("JSON_STRINGIFY", 1, 1, |_, args| Ok(args[0].to_json().into())),
    hash!("MD5", Md5),
    impure("RANDOM_TOKEN", 1, 1, random_token),
    hash!("SHA1", Sha1),
    hash!("SHA256", Sha256),
    hash!("SHA512", Sha512),
    pure("TO_BASE64", 1, 1, |_, args| {
        Ok(base64::engine::general_purpose::STANDARD.encode(args[0].to_string().as_bytes()).into())
    }),
    pure("TO_HEX", 1, 1, |_, args| Ok(hex(args[0].to_string().as_bytes()).into())),
    impure("UUID", 0, 0, |context, _| {
        // Version 4, variant 1.
        let bits = context.rng.next_u128() & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
        Ok(parts.join("-").into())
    }),
];

/// CRC-32C (Castagnoli), which is not the one of zip files.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

/// FNV-1a.
pub fn fnv64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

/// Four decimal numbers without leading zeros.
fn ipv4(value: &Value) -> Option<Ipv4Addr> {
    value.as_str()?.parse().ok()
}

fn random_token(context: &mut Context<'_>, args: &[Value]) -> Called {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let count = args[0].to_int();
    if !(0..=TOKEN_CHARACTERS_MAX).contains(&count) {
        return context.invalid_type();
    }
    let mut draw = || char::from(ALPHABET[context.rng.below(ALPHABET.len() as u64) as usize]);
    Ok((0..count).map(|_| draw()).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use crate::aql::testing::call;

    crate::aql::testing::table! {
        r#"CRC32("foobar")"# => r#""D5F5C7F""#,
        r#"ENCODE_URI_COMPONENT("fünf %")"# => r#""f%C3%BCnf%20%25""#,
        r#"FNV64("foobar")"# => r#""85944171F73967E8""#,
        r#"IPV4_FROM_NUMBER(0)"# => r#""0.0.0.0""#,
        r#"IPV4_FROM_NUMBER(3232235521)"# => r#""192.168.0.1""#,
        r#"IPV4_FROM_NUMBER(-23)"# => "null" 1542,
        r#"IPV4_TO_NUMBER("127.0.0.1")"# => "2130706433",
        r#"IPV4_TO_NUMBER("milk")"# => "null" 1542,
        r#"IS_IPV4("127.0.0.1")"# => "true",
        r#"IS_IPV4("008.008.008.008")"# => "false",
        r#"IS_IPV4("12345.2.3.4")"# => "false",
        r#"IS_IPV4(8888)"# => "false",
        r#"JSON_PARSE("[ true, false, null, -0.5 ]")"# => "[true,false,null,-0.5]",
        r#"JSON_PARSE("\"abc\"")"# => r#""abc""#,
        r#"JSON_PARSE("abc")"# => "null" 1542,
        r#"JSON_STRINGIFY([1,{"2":0.5}])"# => r#""[1,{\"2\":0.5}]""#,
        r#"MD5("foobar")"# => r#""3858f62230ac3c915f300c664312c63f""#,
        r#"SHA1("foobar")"# => r#""8843d7f92416211de9ebb963ff4ce28125932878""#,
        r#"SHA256("foobar")"# => r#""c3ab8ff13720e8ad9047dd39466b3c8974e592c2fa383d4a3960714caef0c4f2""#,
        r#"SHA512("foobar")"# => r#""0a50261ebd1a390fed2bf326f2673c145582a6342d523204973d0219337f81616a8069b012587cf5635f6925f1b56c360230c19b273500ee013e030601bf2425""#,
        r#"TO_BASE64("ABC.")"# => r#""QUJDLg==""#,
        r#"TO_HEX("ABC.")"# => r#""4142432e""#,
        r#"TO_HEX("ü")"# => r#""c3bc""#,
        r#"RANDOM_TOKEN(0)"# => r#""""#,
        r#"RANDOM_TOKEN(65537)"# => "null" 1542,
    }

    #[test]
    fn chance_gives_what_has_the_right_shape() {
        let uuid = call("UUID()").0.unwrap();
        let uuid = uuid.as_str().unwrap();
        assert_eq!((uuid.len(), &uuid[14..15]), (36, "4"));
        assert!(matches!(uuid.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{uuid}");
        assert_eq!(call("RANDOM_TOKEN(8)").0.unwrap().as_str().unwrap().len(), 8);
        let number = call("RAND()").0.unwrap().to_double();
        assert!(number > 0.0 && number < 1.0);
    }
}
