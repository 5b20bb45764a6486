//! Values into messages and back, and what happens where that is not possible.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::time::Duration;

use crate::common::*;
use ductworks::{Codec, CodecError, Decode, Duct, Encode, ErrorKind, Json, MessagePack, Raw};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Shape {
    Nothing,
    Number(i64),
    Text { text: String, tags: Vec<char> },
    Map(BTreeMap<String, Option<u32>>),
    Nested(Vec<Shape>),
    Fraction(f64),
}

fn shapes() -> impl Strategy<Value = Shape> {
    let leaf = prop_oneof![
        Just(Shape::Nothing),
        any::<i64>().prop_map(Shape::Number),
        (any::<String>(), any::<Vec<char>>()).prop_map(|(text, tags)| Shape::Text { text, tags }),
        prop::collection::btree_map(any::<String>(), any::<Option<u32>>(), 0..4)
            .prop_map(Shape::Map),
        // JSON has no other floats.
        any::<f64>()
            .prop_filter("finite", |f| f.is_finite())
            .prop_map(Shape::Fraction),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop::collection::vec(inner, 0..4).prop_map(Shape::Nested)
    })
}

fn assert_arrives<C, T>(codec: C, value: &T)
where
    C: Encode<T> + Decode<T> + Copy,
    T: PartialEq + Debug,
{
    let (a, b) = ductworks::pair().unwrap();
    a.with_codec(codec).send(value).unwrap();
    assert_eq!(b.with_codec(codec).recv::<T>().unwrap(), *value);
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn every_value_arrives_as_it_was_sent(value in shapes()) {
        assert_arrives(Json, &value);
        assert_arrives(MessagePack, &value);
    }

    #[test]
    fn bytes_and_text_arrive_as_they_are(bytes: Vec<u8>, text: String) {
        assert_arrives(Raw, &bytes);
        assert_arrives(Raw, &text);
        assert_arrives(MessagePack, &ByteBuf::from(bytes));
    }

    #[test]
    fn any_payload_is_a_value_or_a_decoding_error(payload: Vec<u8>) {
        fn try_all<C>(codec: C, payload: &[u8])
        where
            C: Codec + Copy + Decode<String> + Decode<Vec<u8>>,
        {
            let (a, b) = ductworks::pair().unwrap();
            let b = b.with_codec(codec);
            a.send_bytes(payload).unwrap();
            a.send_bytes(payload).unwrap();
            for outcome in [b.recv::<String>().map(drop), b.recv::<Vec<u8>>().map(drop)] {
                assert!(outcome.is_ok() || kind(outcome) == ErrorKind::Decode);
            }
            assert_eq!(kind(b.try_recv_bytes()), ErrorKind::WouldBlock);
        }
        try_all(Json, &payload);
        try_all(MessagePack, &payload);
        try_all(Raw, &payload);
    }
}

#[test]
fn the_two_ends_may_speak_different_formats_in_each_direction() {
    let _watchdog = watchdog();
    let (a, b) = ductworks::pair().unwrap();
    let a = a.with_codec(MessagePack);
    a.send(&(1, "one")).unwrap();
    let b = b.with_codec(MessagePack);
    assert_eq!(b.recv::<(u8, String)>().unwrap(), (1, "one".into()));
    let (a, b) = (a.with_codec(Raw), b.with_codec(Raw));
    b.send("plain").unwrap();
    assert_eq!(a.recv::<String>().unwrap(), "plain");
}

/// A format with which nothing works.
#[derive(Clone, Copy)]
struct Broken;

impl Codec for Broken {
    fn name(&self) -> &'static str {
        "nonsense"
    }
}

impl<T: ?Sized> Encode<T> for Broken {
    fn encode(&self, _: &T, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(b"a part of it");
        Err("it cannot be said".into())
    }
}

impl<T> Decode<T> for Broken {
    fn decode(&self, _: Vec<u8>) -> Result<T, CodecError> {
        Err("it cannot be understood".into())
    }
}

#[test]
fn a_value_that_cannot_be_encoded_sends_nothing() {
    let _watchdog = watchdog();
    fn fails<C: Encode<T>, T>(duct: &Duct<C>, value: &T) {
        for outcome in [
            duct.send(value),
            duct.try_send(value),
            duct.send_timeout(value, PATIENCE),
        ] {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encode);
            assert!(error.to_string().contains("nothing was sent"), "{error}");
            assert!(error.into_source().is_some());
        }
    }
    let (a, b) = ductworks::pair().unwrap();
    let no_text_for_a_key = HashMap::from([((1, 2), 3)]);
    fails(&a, &no_text_for_a_key);
    let a = a.with_codec(Broken);
    fails(&a, &1);
    assert!(!b.poll(Duration::ZERO).unwrap());
    a.with_codec(Json).send(&1).unwrap();
    assert_eq!(b.recv::<u8>().unwrap(), 1);
}

#[test]
fn a_message_that_cannot_be_decoded_is_consumed_and_no_other() {
    let _watchdog = watchdog();
    fn fails<C: Decode<T>, T: Debug>(duct: &Duct<C>) {
        for receive in [
            |duct: &Duct<C>| duct.recv(),
            |duct: &Duct<C>| duct.try_recv(),
            |duct: &Duct<C>| duct.recv_timeout(PATIENCE),
        ] {
            let error = receive(duct).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Decode, "{error}");
            assert!(error.into_source().is_some());
        }
    }
    fn fails_between<C: Decode<T> + Copy, T: Debug>(codec: C, payload: &[u8]) {
        let (a, b) = ductworks::pair().unwrap();
        a.send_bytes(b"before").unwrap();
        (0..3).for_each(|_| a.send_bytes(payload).unwrap());
        a.send_bytes(b"after").unwrap();
        assert_eq!(b.recv_bytes().unwrap(), b"before");
        let b = b.with_codec(codec);
        fails::<C, T>(&b);
        assert_eq!(b.recv_bytes().unwrap(), b"after");
    }
    for payload in [
        &b""[..],
        b"{",
        b"\"\xff\"",
        b"1 2",
        b"NaN",
        b"\xef\xbb\xbf1",
    ] {
        fails_between::<_, serde_json::Value>(Json, payload);
    }
    fails_between::<_, u8>(Json, b"256");
    for payload in [&b""[..], b"\xc1", b"\x92\x01", b"\x01\x02"] {
        fails_between::<_, (u8, u8)>(MessagePack, payload);
    }
    fails_between::<_, String>(Raw, b"\xff");
    fails_between::<_, u8>(Broken, b"");
}

/// What this and other languages must agree on.
#[test]
fn the_payloads_are_what_others_expect() {
    let _watchdog = watchdog();
    #[derive(Serialize)]
    struct Point {
        x: u8,
        label: Option<&'static str>,
    }
    fn payload<C: Encode<T>, T>(codec: C, value: &T) -> Vec<u8> {
        let (a, b) = ductworks::pair().unwrap();
        a.with_codec(codec).send(value).unwrap();
        b.recv_bytes().unwrap()
    }
    let point = Point { x: 1, label: None };
    assert_eq!(payload(Json, &point), br#"{"x":1,"label":null}"#);
    assert_eq!(payload(MessagePack, &point), b"\x82\xa1x\x01\xa5label\xc0");
    assert_eq!(payload(Json, &f64::NAN), b"null");
    assert_eq!(payload(Raw, &"as it is"), b"as it is");
}

#[test]
fn deep_nesting_is_an_error_and_no_overflow_of_the_stack() {
    let _watchdog = watchdog();
    fn refuses<C: Decode<T>, T: DeserializeOwned + Debug>(codec: C, payload: &[u8]) {
        let (a, b) = Transport::Unix.ducts();
        a.send_bytes(payload).unwrap();
        let error = b.with_codec(codec).recv::<T>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Decode);
    }
    let deep = 100_000;
    refuses::<_, serde_json::Value>(Json, &vec![b'['; deep]);
    refuses::<_, serde_json::Value>(MessagePack, &vec![0x91; deep]);
}
