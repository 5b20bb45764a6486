//! Python objects to JSON and back, as the standard library's `json` does it.
//!
//! The common case runs here and in jiter. Whatever is not plainly the common case goes, whole, to
//! `json.dumps` or `json.loads`, so that its values and exceptions are theirs and need no
//! imitation. One difference remains: with little of the interpreter's recursion limit left,
//! `json` raises `RecursionError` for nested documents that pass here.
//!
//! Both functions may run Python code (an `items` method, a finalizer, a signal handler), which may
//! use the same duct: hold no lock while calling them.

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use jiter::{FloatMode, PartialMode, PythonParse, StringCacheMode};
use pyo3::PyTypeInfo;
use pyo3::exceptions::PyMemoryError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

static DUMPS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Containers nested deeper than this go to `json.dumps`. It bounds the stack used here and ends
/// the walk of a circular object.
const MAX_DEPTH: u32 = 100;

/// A str of more characters is encoded through a temporary: see [`string`].
const KEEP_UTF8: usize = 4096;

/// How many bytes of text are looked at together.
const CHUNK: usize = 16;

/// Why an object was not encoded here.
enum Stop {
    /// `json.dumps` has to decide.
    UseStdlib,
    /// An exception that is not about the object and must not be lost: a signal handler's, or that
    /// memory ran out.
    Raise(Box<PyErr>),
}

type Encoded = Result<(), Stop>;

/// Appends `json.dumps(obj).encode("utf-8")` to `out`.
///
/// # Errors
///
/// What `json.dumps` raises; `out` is then as it was.
pub(crate) fn encode(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let start = out.len();
    if let Err(stop) = value(obj, out, MAX_DEPTH) {
        out.truncate(start);
        if let Stop::Raise(error) = stop {
            return Err(*error);
        }
        let text = DUMPS.import(obj.py(), "json", "dumps")?.call1((obj,))?;
        let text = text.cast::<PyString>()?.to_str()?;
        out.try_reserve(text.len())
            .map_err(|_| PyMemoryError::new_err(()))?;
        out.extend_from_slice(text.as_bytes());
    }
    Ok(())
}

/// Returns `json.loads(bytes.decode("utf-8"))`.
///
/// # Errors
///
/// What that expression raises.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // jiter is built without big integers: past 64 bits `json.loads` decides, as only it knows the
    // interpreter's limit on digits. Only keys are cached, as values should not outlive a message.
    let parser = PythonParse {
        allow_inf_nan: true,
        cache_mode: StringCacheMode::Keys,
        partial_mode: PartialMode::Off,
        catch_duplicate_keys: false,
        float_mode: FloatMode::Float,
    };
    // jiter panics where Python has no memory left. A panic counts as a refusal like any other, for
    // the parse shares nothing with what follows.
    match catch_unwind(AssertUnwindSafe(|| parser.python_parse(py, bytes))) {
        Ok(Ok(object)) => return Ok(object),
        Ok(Err(_)) => {}
        // The call that failed may have left its exception set.
        Err(_) => drop(PyErr::take(py)),
    }
    let text = PyString::from_bytes(py, bytes)?;
    LOADS.import(py, "json", "loads")?.call1((text,))
}

fn value(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> Encoded {
    if let Some(s) = exact::<PyString>(obj) {
        string(s, out)
    } else if let Some(n) = exact::<PyInt>(obj) {
        integer(n, out)
    } else if let Some(dict) = exact::<PyDict>(obj) {
        object(dict, out, depth)
    } else if let Some(x) = exact::<PyFloat>(obj) {
        float(x.value(), out)
    } else if obj.is_none() {
        put(b"null", out)
    } else if let Some(b) = exact::<PyBool>(obj) {
        put(if b.is_true() { &b"true"[..] } else { b"false" }, out)
    } else if let Some(list) = exact::<PyList>(obj) {
        array(list.iter(), out, depth)
    } else if let Some(tuple) = exact::<PyTuple>(obj) {
        array(tuple.iter(), out, depth)
    } else {
        Err(Stop::UseStdlib)
    }
}

/// `obj` as a `T` if that is exactly its type. A subclass may behave in any way at all.
fn exact<'a, 'py, T: PyTypeInfo>(obj: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    // cast_exact alone builds an error object for every miss.
    obj.is_exact_instance_of::<T>()
        .then(|| obj.cast_exact().ok())?
}

fn array<'py, I>(items: I, out: &mut Vec<u8>, depth: u32) -> Encoded
where
    I: Iterator<Item = Bound<'py, PyAny>>,
{
    let depth = depth.checked_sub(1).ok_or(Stop::UseStdlib)?;
    put(b"[", out)?;
    for (index, item) in items.enumerate() {
        if index > 0 {
            put(b", ", out)?;
        }
        value(&item, out, depth)?;
    }
    put(b"]", out)
}

fn object(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: u32) -> Encoded {
    let depth = depth.checked_sub(1).ok_or(Stop::UseStdlib)?;
    let size = dict.len();
    let mut position = 0;
    put(b"{", out)?;
    for index in 0..size {
        let (key, item) = next_item(dict, &mut position).ok_or(Stop::UseStdlib)?;
        if index > 0 {
            put(b", ", out)?;
        }
        string(exact(&key).ok_or(Stop::UseStdlib)?, out)?;
        put(b": ", out)?;
        value(&item, out, depth)?;
    }
    // Another thread, or a signal handler run by a long integer, may have changed it meanwhile.
    if dict.len() != size {
        return Err(Stop::UseStdlib);
    }
    put(b"}", out)
}

/// The item of `dict` at `position`, which moves on. PyO3's own iterator panics if the dict changed.
fn next_item<'py>(
    dict: &Bound<'py, PyDict>,
    position: &mut ffi::Py_ssize_t,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (py, mut key, mut item) = (dict.py(), ptr::null_mut(), ptr::null_mut());
    // SAFETY: `dict` is a live dict and this thread is attached. PyDict_Next compares `position`
    // with the bounds of the dict's table as it is at this call, so whatever happened to the dict
    // since the last call, it returns either 0 or two valid borrowed references. Until both have
    // become owned references no Python code runs, and no other thread can touch the dict: it would
    // need the GIL or, in a build without one, the critical section.
    with_critical_section(dict, || unsafe {
        (ffi::PyDict_Next(dict.as_ptr(), position, &mut key, &mut item) != 0).then(|| {
            (
                Bound::from_borrowed_ptr(py, key),
                Bound::from_borrowed_ptr(py, item),
            )
        })
    })
}

fn integer(n: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Encoded {
    let mut overflow = 0;
    // SAFETY: `n` is a live int, this thread is attached, and `overflow` outlives the call. Given an
    // int it does not fail: one out of range is reported through `overflow`.
    let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(n.as_ptr(), &mut overflow) };
    if overflow == 0 {
        return put(itoa::Buffer::new().format(small).as_bytes(), out);
    }
    // Up to 2**1024, the end of float, the interpreter's limit on digits (at least 640) cannot apply.
    // So if the conversion below raises, it is a signal handler: long conversions look for signals.
    n.extract::<f64>().map_err(refused)?;
    // SAFETY: `n` is a live int and this thread is attached. The result is a new reference, or null
    // with an exception set, which is what from_owned_ptr_or_err takes.
    let text =
        unsafe { Bound::from_owned_ptr_or_err(n.py(), ffi::PyNumber_ToBase(n.as_ptr(), 10)) };
    let text = text.map_err(|error| Stop::Raise(Box::new(error)))?;
    let digits = text.cast::<PyString>().map_err(refused)?;
    put(digits.to_str().map_err(refused)?.as_bytes(), out)
}

/// The bytes of `float.__repr__`: the fewest digits that read back as the same float, of those the
/// nearest to it, and of two as near the even one. zmij has these rules too; Rust's own formatting
/// lacks the last, and PyOS_double_to_string takes over ten times as long.
fn float(x: f64, out: &mut Vec<u8>) -> Encoded {
    if x.is_nan() {
        return put(b"NaN", out);
    }
    if x.is_sign_negative() {
        put(b"-", out)?;
    }
    if x.is_infinite() {
        return put(b"Infinity", out);
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(x.abs());
    // The layouts differ: Python writes 1e-07 for zmij's 1e-7, and 1.5e-05 for 0.000015.
    if let Some((digits, exponent)) = text.split_once('e') {
        let exponent: i32 = exponent.parse().map_err(refused)?;
        put(digits.as_bytes(), out)?;
        room(8, out)?;
        return write!(out, "e{exponent:+03}").map_err(refused);
    }
    let Some(digits) = text.strip_prefix("0.0000") else {
        return put(text.as_bytes(), out);
    };
    let (first, rest) = digits.split_at_checked(1).ok_or(Stop::UseStdlib)?;
    put(first.as_bytes(), out)?;
    if !rest.is_empty() {
        put(b".", out)?;
        put(rest.as_bytes(), out)?;
    }
    put(b"e-05", out)
}

fn string(s: &Bound<'_, PyString>, out: &mut Vec<u8>) -> Encoded {
    // to_str leaves its UTF-8 form attached to a non-ASCII str for as long as that lives. A large
    // one must not double in size because it was sent.
    if s.code_point_len().map_err(refused)? <= KEEP_UTF8 {
        return escape(s.to_str().map_err(refused)?, out);
    }
    let utf8 = s.encode_utf8().map_err(refused)?;
    escape(str::from_utf8(utf8.as_bytes()).map_err(refused)?, out)
}

fn escape(text: &str, out: &mut Vec<u8>) -> Encoded {
    let chunks = plain_chunks(text.as_bytes());
    let tail = text.as_bytes()[chunks..]
        .iter()
        .take_while(|&&byte| is_plain(byte))
        .count();
    let (plain, mut rest) = text.split_at(chunks + tail);
    room(text.len() + 2, out)?;
    out.push(b'"');
    out.extend_from_slice(plain.as_bytes());
    while !rest.is_empty() {
        // Odd characters come in company: some one by one, then whatever is plain at once.
        let mut chars = rest.chars();
        room(CHUNK * 12, out)?;
        for c in chars.by_ref().take(CHUNK) {
            match u8::try_from(c) {
                Ok(byte) if is_plain(byte) => out.push(byte),
                _ => escape_char(c, out),
            }
        }
        rest = chars.as_str();
        let (plain, odd) = rest.split_at(plain_chunks(rest.as_bytes()));
        put(plain.as_bytes(), out)?;
        rest = odd;
    }
    put(b"\"", out)
}

fn escape_char(c: char, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match c {
        '"' | '\\' => c as u8,
        '\n' => b'n',
        '\r' => b'r',
        '\t' => b't',
        '\u{8}' => b'b',
        '\u{c}' => b'f',
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let [a, b, c, d] = [12, 8, 4, 0].map(|bits| HEX[usize::from(*unit >> bits & 0xf)]);
                out.extend_from_slice(&[b'\\', b'u', a, b, c, d]);
            }
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

/// Whether `json.dumps` leaves a byte of UTF-8 as it is.
fn is_plain(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b'"' && byte != b'\\'
}

/// The length of the plain text at the start of `bytes`, in whole chunks.
fn plain_chunks(bytes: &[u8]) -> usize {
    // Looking at all of a chunk, without an early end, lets the compiler use vector instructions.
    let plain = |chunk: &&[u8]| chunk.iter().fold(true, |all, &byte| all & is_plain(byte));
    bytes.chunks_exact(CHUNK).take_while(plain).count() * CHUNK
}

#[inline]
fn put(bytes: &[u8], out: &mut Vec<u8>) -> Encoded {
    room(bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}

/// Makes room for `extra` bytes. A Vec that grows by itself ends the process if memory runs out.
#[inline]
fn room(extra: usize, out: &mut Vec<u8>) -> Encoded {
    out.try_reserve(extra).map_err(|_| no_memory())
}

#[cold]
fn no_memory() -> Stop {
    Stop::Raise(Box::new(PyMemoryError::new_err(())))
}

fn refused<E>(_: E) -> Stop {
    Stop::UseStdlib
}
