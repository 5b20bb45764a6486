//! Python objects to JSON and back, as the standard library's `json` does it.
//!
//! The common case runs here and in jiter. Whatever is not plainly the common case is handed, whole, to
//! `json.dumps` or `json.loads`, so its values and its exceptions are theirs and need no imitation. One
//! difference remains: near the interpreter's recursion limit `json` raises `RecursionError` for documents
//! that are encoded and decoded here.

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

/// Containers nested deeper than this go to `json.dumps`. It bounds the stack used here and ends the walk of
/// a circular object. jiter stops at the same depth.
const MAX_DEPTH: u32 = 200;

/// A longer str is encoded through a temporary: see [`string`].
const KEEP_UTF8: usize = 4096;

const STRETCH: usize = 16;

/// Why an object was not encoded here.
enum Stop {
    /// `json.dumps` has to decide.
    UseStdlib,
    /// An exception that is not about the object and must not be lost: no memory, or a signal handler's.
    Raise(Box<PyErr>),
}

/// Appends `json.dumps(obj).encode("utf-8")` to `out`.
///
/// # Errors
///
/// What `json.dumps` raises; `out` is then as it was.
pub(crate) fn encode(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>) -> PyResult<()> {
    let start = out.len();
    let stop = match value(obj, out, MAX_DEPTH) {
        Ok(()) => return Ok(()),
        Err(stop) => stop,
    };
    out.truncate(start);
    if let Stop::Raise(error) = stop {
        return Err(*error);
    }
    let py = obj.py();
    let text = DUMPS.import(py, "json", "dumps")?.call1((obj,))?;
    match put(text.cast::<PyString>()?.to_str()?.as_bytes(), out) {
        Err(Stop::Raise(error)) => Err(*error),
        _ => Ok(()),
    }
}

/// Returns `json.loads(bytes.decode("utf-8"))`.
///
/// # Errors
///
/// What that expression raises.
pub(crate) fn decode<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // jiter is built without big integers: beyond 64 bits `json.loads` decides, for only it knows the
    // interpreter's limit on digits.
    let parser = PythonParse {
        allow_inf_nan: true,
        cache_mode: StringCacheMode::Keys,
        partial_mode: PartialMode::Off,
        catch_duplicate_keys: false,
        float_mode: FloatMode::Float,
    };
    // jiter panics where Python runs out of memory. The bytes come from a peer, so a panic is treated like
    // any refusal; nothing but jiter's own state, dropped by then, was in use.
    match catch_unwind(AssertUnwindSafe(|| parser.python_parse(py, bytes))) {
        Ok(Ok(object)) => return Ok(object),
        Ok(Err(_)) => {}
        // A call that failed before the panic may have left its exception set.
        Err(_) => drop(PyErr::take(py)),
    }
    let text = PyString::from_bytes(py, bytes)?;
    LOADS.import(py, "json", "loads")?.call1((text,))
}

/// `obj` as a `T` if that is exactly its type. A subclass may behave in any way, so it does not count.
fn exact<'a, 'py, T: PyTypeInfo>(obj: &'a Bound<'py, PyAny>) -> Option<&'a Bound<'py, T>> {
    // cast_exact alone builds an error object for every miss.
    if obj.is_exact_instance_of::<T>() { obj.cast_exact().ok() } else { None }
}

fn value(obj: &Bound<'_, PyAny>, out: &mut Vec<u8>, depth: u32) -> Result<(), Stop> {
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
        if b.is_true() { put(b"true", out) } else { put(b"false", out) }
    } else if let Some(list) = exact::<PyList>(obj) {
        array(list.iter(), out, depth)
    } else if let Some(tuple) = exact::<PyTuple>(obj) {
        array(tuple.iter(), out, depth)
    } else {
        Err(Stop::UseStdlib)
    }
}

fn array<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, out: &mut Vec<u8>, depth: u32) -> Result<(), Stop> {
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

fn object(dict: &Bound<'_, PyDict>, out: &mut Vec<u8>, depth: u32) -> Result<(), Stop> {
    let depth = depth.checked_sub(1).ok_or(Stop::UseStdlib)?;
    let size = dict.len();
    let mut position = 0;
    put(b"{", out)?;
    for index in 0..size {
        let (key, item) = next_item(dict, &mut position).ok_or(Stop::UseStdlib)?;
        if index > 0 {
            put(b", ", out)?;
        }
        string(exact::<PyString>(&key).ok_or(Stop::UseStdlib)?, out)?;
        put(b": ", out)?;
        value(&item, out, depth)?;
    }
    // Another thread, or a signal handler run by a long integer, may have changed the dict meanwhile.
    if dict.len() != size {
        return Err(Stop::UseStdlib);
    }
    put(b"}", out)
}

/// The item of `dict` at `position`, which moves on. PyO3's own iterator panics when the dict has changed.
fn next_item<'py>(
    dict: &Bound<'py, PyDict>,
    position: &mut ffi::Py_ssize_t,
) -> Option<(Bound<'py, PyAny>, Bound<'py, PyAny>)> {
    let (mut key, mut item) = (ptr::null_mut(), ptr::null_mut());
    with_critical_section(dict, || {
        // SAFETY: `dict` is a live dict and this thread is attached. PyDict_Next compares `position` with the
        // bounds of the dict's table as it is at this call, so whatever happened to the dict since the last
        // call, it returns either false or two valid borrowed references. No Python code runs, and no other
        // thread can touch the dict (the GIL, or without one the critical section), before both are made
        // owned references.
        unsafe {
            if ffi::PyDict_Next(dict.as_ptr(), position, &mut key, &mut item) == 0 {
                return None;
            }
            let py = dict.py();
            Some((Bound::from_borrowed_ptr(py, key), Bound::from_borrowed_ptr(py, item)))
        }
    })
}

fn integer(n: &Bound<'_, PyInt>, out: &mut Vec<u8>) -> Result<(), Stop> {
    let mut overflow = 0;
    // SAFETY: `n` is a live int and this thread is attached; `overflow` outlives the call. For an int it
    // cannot fail, it only reports overflow.
    let small = unsafe { ffi::PyLong_AsLongLongAndOverflow(n.as_ptr(), &mut overflow) };
    if overflow == 0 {
        return decimal(small, out);
    }
    // Below 2**1024, where a float ends, no setting of the interpreter's limit on digits applies, so that
    // an exception from the conversion is a signal handler's (it looks for signals as it goes).
    if n.extract::<f64>().is_err() {
        return Err(Stop::UseStdlib);
    }
    // SAFETY: `n` is a live int and this thread is attached; the result is a new reference, or null with an
    // exception set, as from_owned_ptr_or_err wants it.
    let digits = unsafe { Bound::from_owned_ptr_or_err(n.py(), ffi::PyNumber_ToBase(n.as_ptr(), 10)) };
    let digits = digits.map_err(|error| Stop::Raise(Box::new(error)))?;
    let digits = digits.cast::<PyString>().map_err(|_| Stop::UseStdlib)?;
    put(digits.to_str().map_err(|_| Stop::UseStdlib)?.as_bytes(), out)
}

fn decimal(n: i64, out: &mut Vec<u8>) -> Result<(), Stop> {
    let mut text = [0; 20];
    let mut start = text.len();
    let mut left = n.unsigned_abs();
    loop {
        start -= 1;
        text[start] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            break;
        }
    }
    if n < 0 {
        put(b"-", out)?;
    }
    put(&text[start..], out)
}

/// Rust and `float.__repr__` both choose the fewest digits that read back as the same float, and of those the
/// nearest to it. Only the layout differs.
fn float(x: f64, out: &mut Vec<u8>) -> Result<(), Stop> {
    if !x.is_finite() {
        let name: &[u8] = if x.is_nan() { b"NaN" } else { b"Infinity" };
        return put(if x < 0.0 { b"-Infinity" } else { name }, out);
    }
    room(32, out)?;
    let start = out.len();
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        write!(out, "{x}").map_err(|_| Stop::UseStdlib)?;
        return if x == x.trunc() { put(b".0", out) } else { Ok(()) };
    }
    // Python writes a sign and at least two digits in the exponent.
    write!(out, "{x:e}").map_err(|_| Stop::UseStdlib)?;
    let e = out[start..].iter().position(|&byte| byte == b'e').ok_or(Stop::UseStdlib)?;
    let mut digits = start + e + 1;
    if out.get(digits) != Some(&b'-') {
        out.insert(digits, b'+');
    }
    digits += 1;
    if out.len() - digits == 1 {
        out.insert(digits, b'0');
    }
    Ok(())
}

fn string(s: &Bound<'_, PyString>, out: &mut Vec<u8>) -> Result<(), Stop> {
    // to_str leaves the UTF-8 form of a non-ASCII str attached to it for as long as it lives. A large str is
    // not to double in size because it was sent.
    if s.code_point_len().is_ok_and(|length| length <= KEEP_UTF8) {
        return escape(s.to_str().map_err(|_| Stop::UseStdlib)?, out);
    }
    let bytes = s.encode_utf8().map_err(|_| Stop::UseStdlib)?;
    escape(std::str::from_utf8(bytes.as_bytes()).map_err(|_| Stop::UseStdlib)?, out)
}

fn escape(text: &str, out: &mut Vec<u8>) -> Result<(), Stop> {
    room(text.len() + 2, out)?;
    out.push(b'"');
    let (plain, mut rest) = text.split_at(plain_length(text.as_bytes()));
    out.extend_from_slice(plain.as_bytes());
    while !rest.is_empty() {
        // Odd characters come in company: a stretch one by one, then whatever is plain at once.
        let mut chars = rest.chars();
        room(STRETCH * 12, out)?;
        for c in chars.by_ref().take(STRETCH) {
            if u8::try_from(c).is_ok_and(is_plain) {
                out.push(c as u8);
            } else {
                escape_char(c, out);
            }
        }
        rest = chars.as_str();
        let plain = whole_chunks(rest.as_bytes());
        put(&rest.as_bytes()[..plain], out)?;
        rest = &rest[plain..];
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
                let [a, b, c, d] = [12, 8, 4, 0].map(|shift| HEX[usize::from(*unit >> shift & 0xf)]);
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

fn plain_length(bytes: &[u8]) -> usize {
    let chunks = whole_chunks(bytes);
    chunks + bytes[chunks..].iter().take_while(|&&byte| is_plain(byte)).count()
}

/// The length of the plain text at the start of `bytes`, in whole chunks.
fn whole_chunks(bytes: &[u8]) -> usize {
    // Looking at every byte of a chunk, without an early end, lets the compiler use vector instructions.
    let plain = |chunk: &&[u8]| chunk.iter().fold(true, |all, &byte| all & is_plain(byte));
    bytes.chunks_exact(STRETCH).take_while(plain).count() * STRETCH
}

/// Makes room for `extra` more bytes. A Vec left to grow by itself ends the process when there is no memory.
#[inline]
fn room(extra: usize, out: &mut Vec<u8>) -> Result<(), Stop> {
    out.try_reserve(extra).map_err(|_| no_memory())
}

#[cold]
fn no_memory() -> Stop {
    Stop::Raise(Box::new(PyMemoryError::new_err(())))
}

#[inline]
fn put(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Stop> {
    room(bytes.len(), out)?;
    out.extend_from_slice(bytes);
    Ok(())
}
