//! Pickles of plain values, written and read without the pickle module: for a small message that is
//! most of the work.
//!
//! Plain are the exact types that pickle treats in one way only, whatever reducers a program has
//! registered. What is not plainly plain, in either direction, is left to the pickle module as a
//! whole: values and exceptions are its own, with no imitation of its corners. The opcodes are those
//! of CPython's `Lib/pickletools.py`.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};

/// Beyond this many values, or bytes, or levels, the set-up of a pickler does not matter.
const VALUES: usize = 256;
const BYTES: usize = 16 * 1024;
const LEVELS: usize = 8;

/// The protocol of what is written here, which every Python 3.4 or newer reads.
const WRITTEN: u8 = 4;

mod op {
    pub(super) const MARK: u8 = b'(';
    pub(super) const STOP: u8 = b'.';
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const NONE: u8 = b'N';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const BINGET: u8 = b'h';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const FRAME: u8 = 0x95;
}

/// The pickle of a plain value, or nothing.
pub(super) fn write(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let mut writer = Writer {
        pickle: Vec::with_capacity(128),
        values: VALUES,
        containers: Vec::new(),
    };
    writer.pickle.extend([op::PROTO, WRITTEN]);
    writer.value(value, LEVELS)?;
    writer.pickle.push(op::STOP);
    (writer.pickle.len() <= BYTES).then_some(writer.pickle)
}

struct Writer {
    pickle: Vec<u8>,
    /// How many more values there may be.
    values: usize,
    /// Every list, dict and tuple so far. One that comes twice is one object with two references to
    /// it, which only the pickle module can say.
    containers: Vec<*mut ffi::PyObject>,
}

impl Writer {
    fn value(&mut self, value: &Bound<'_, PyAny>, levels: usize) -> Option<()> {
        self.values = self.values.checked_sub(1)?;
        if let Ok(text) = value.cast_exact::<PyString>() {
            let text = text.to_str().ok()?.as_bytes();
            return self.string(text, op::SHORT_BINUNICODE, op::BINUNICODE);
        }
        if value.is_exact_instance_of::<PyInt>() {
            return self.int(value.extract().ok()?);
        }
        if value.is_none() {
            self.pickle.push(op::NONE);
            return Some(());
        }
        if let Ok(float) = value.cast_exact::<PyFloat>() {
            self.pickle.push(op::BINFLOAT);
            self.pickle.extend(float.value().to_be_bytes());
            return Some(());
        }
        if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            return self.string(bytes.as_bytes(), op::SHORT_BINBYTES, op::BINBYTES);
        }
        if let Ok(truth) = value.cast_exact::<PyBool>() {
            let truth = if truth.is_true() {
                op::NEWTRUE
            } else {
                op::NEWFALSE
            };
            self.pickle.push(truth);
            return Some(());
        }
        let levels = levels.checked_sub(1)?;
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            let len = tuple.len();
            if len > 0 {
                self.container(value)?; // There is only one empty tuple.
            }
            if len > 3 {
                self.pickle.push(op::MARK);
            }
            for item in tuple.iter_borrowed() {
                self.value(&item, levels)?;
            }
            self.pickle.push(match len {
                0 => op::EMPTY_TUPLE,
                1 => op::TUPLE1,
                2 => op::TUPLE2,
                3 => op::TUPLE3,
                _ => op::TUPLE,
            });
            return Some(());
        }
        if let Ok(list) = value.cast_exact::<PyList>() {
            self.container(value)?;
            self.pickle.push(op::EMPTY_LIST);
            self.pickle.push(op::MARK);
            for item in list.iter() {
                self.value(&item, levels)?;
            }
            self.pickle.push(op::APPENDS);
            return Some(());
        }
        if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.container(value)?;
            self.pickle.push(op::EMPTY_DICT);
            self.pickle.push(op::MARK);
            for (key, item) in dict.iter() {
                self.value(&key, levels)?;
                self.value(&item, levels)?;
            }
            self.pickle.push(op::SETITEMS);
            return Some(());
        }
        None
    }

    fn container(&mut self, value: &Bound<'_, PyAny>) -> Option<()> {
        let address = value.as_ptr();
        if self.containers.contains(&address) {
            return None;
        }
        self.containers.push(address);
        Some(())
    }

    fn int(&mut self, value: i64) -> Option<()> {
        if let Ok(byte) = u8::try_from(value) {
            self.pickle.extend([op::BININT1, byte]);
        } else if let Ok(short) = u16::try_from(value) {
            self.pickle.push(op::BININT2);
            self.pickle.extend(short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.pickle.push(op::BININT);
            self.pickle.extend(int.to_le_bytes());
        } else {
            self.pickle.extend([op::LONG1, 8]);
            self.pickle.extend(value.to_le_bytes());
        }
        Some(())
    }

    fn string(&mut self, bytes: &[u8], short: u8, long: u8) -> Option<()> {
        if bytes.len() > BYTES {
            return None;
        }
        match u8::try_from(bytes.len()) {
            Ok(len) => self.pickle.extend([short, len]),
            Err(_) => {
                self.pickle.push(long);
                let len = u32::try_from(bytes.len()).ok()?;
                self.pickle.extend(len.to_le_bytes());
            }
        }
        self.pickle.extend_from_slice(bytes);
        Some(())
    }
}

/// The value of a pickle that holds nothing but plain values, or nothing.
pub(super) fn read<'py>(py: Python<'py>, pickle: &[u8]) -> Option<Bound<'py, PyAny>> {
    if pickle.len() > BYTES {
        return None;
    }
    let mut reader = Reader {
        py,
        rest: pickle,
        stack: Vec::with_capacity(8),
        marks: Vec::new(),
        memo: Vec::new(),
    };
    while reader.step()? {}
    match (reader.stack.pop(), reader.stack.is_empty(), reader.rest) {
        (Some(value), true, []) if reader.marks.is_empty() => Some(value),
        _ => None,
    }
}

struct Reader<'a, 'py> {
    py: Python<'py>,
    rest: &'a [u8],
    stack: Vec<Bound<'py, PyAny>>,
    /// Where the marks stand in the stack.
    marks: Vec<usize>,
    memo: Vec<Bound<'py, PyAny>>,
}

impl<'a, 'py> Reader<'a, 'py> {
    /// Follows one opcode. False after the last one.
    fn step(&mut self) -> Option<bool> {
        let [opcode] = self.array()?;
        match opcode {
            op::PROTO => {
                let [version] = self.array()?;
                (version <= super::PROTOCOL).then_some(())?;
            }
            op::FRAME => {
                let len = u64::from_le_bytes(self.array()?);
                (len == self.rest.len() as u64).then_some(())?;
            }
            op::STOP => return Some(false),
            op::MARK => self.marks.push(self.stack.len()),
            op::NONE => self.stack.push(self.py.None().into_bound(self.py)),
            op::NEWTRUE => self.bool(true),
            op::NEWFALSE => self.bool(false),
            op::BININT1 => {
                let value = u8::from_le_bytes(self.array()?);
                self.int(value.into());
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.array()?);
                self.int(value.into());
            }
            op::BININT => {
                let value = i32::from_le_bytes(self.array()?);
                self.int(value.into());
            }
            op::LONG1 => {
                let [len] = self.array()?;
                let bytes = self.take(len.into())?;
                let sign = bytes.last().map_or(0, |last| (last >> 7) * 0xff);
                let mut value = [sign; 8];
                value.get_mut(..bytes.len())?.copy_from_slice(bytes);
                self.int(i64::from_le_bytes(value));
            }
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.array()?);
                self.stack.push(PyFloat::new(self.py, value).into_any());
            }
            op::SHORT_BINUNICODE => {
                let [len] = self.array()?;
                self.text(len.into())?;
            }
            op::BINUNICODE => {
                let len = u32::from_le_bytes(self.array()?);
                self.text(len.try_into().ok()?)?;
            }
            op::SHORT_BINBYTES => {
                let [len] = self.array()?;
                self.bytes(len.into())?;
            }
            op::BINBYTES => {
                let len = u32::from_le_bytes(self.array()?);
                self.bytes(len.try_into().ok()?)?;
            }
            op::EMPTY_TUPLE => self.stack.push(PyTuple::empty(self.py).into_any()),
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::TUPLE => {
                let count = self.since_mark()?;
                self.tuple(count)?;
            }
            op::EMPTY_LIST => self.stack.push(PyList::empty(self.py).into_any()),
            op::EMPTY_DICT => self.stack.push(PyDict::new(self.py).into_any()),
            op::APPEND => self.append(1)?,
            op::APPENDS => {
                let count = self.since_mark()?;
                self.append(count)?;
            }
            op::SETITEM => self.set_items(2)?,
            op::SETITEMS => {
                let count = self.since_mark()?;
                self.set_items(count)?;
            }
            op::MEMOIZE => {
                let value = self.below(0)?.clone();
                self.memo.push(value);
            }
            op::BINGET => {
                let [index] = self.array()?;
                self.stack.push(self.memo.get(usize::from(index))?.clone());
            }
            _ => return None,
        }
        Some(true)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// How many values lie above the last mark, which is taken away.
    fn since_mark(&mut self) -> Option<usize> {
        self.stack.len().checked_sub(self.marks.pop()?)
    }

    /// The place of the value with so many others on it, all of them above the last mark: nothing reaches
    /// below that.
    fn place(&self, others: usize) -> Option<usize> {
        let place = self.stack.len().checked_sub(others)?.checked_sub(1)?;
        let fence = self.marks.last().copied().unwrap_or(0);
        (place >= fence).then_some(place)
    }

    /// The value below so many others.
    fn below(&self, others: usize) -> Option<&Bound<'py, PyAny>> {
        self.stack.get(self.place(others)?)
    }

    /// Takes away so many values at the top of the stack.
    fn top(&mut self, count: usize) -> Option<std::vec::Drain<'_, Bound<'py, PyAny>>> {
        let start = match count.checked_sub(1) {
            Some(others) => self.place(others)?,
            None => self.stack.len(),
        };
        Some(self.stack.drain(start..))
    }

    fn bool(&mut self, value: bool) {
        let value = PyBool::new(self.py, value).to_owned();
        self.stack.push(value.into_any());
    }

    fn int(&mut self, value: i64) {
        let Ok(value) = value.into_pyobject(self.py);
        self.stack.push(value.into_any());
    }

    fn text(&mut self, len: usize) -> Option<()> {
        let text = std::str::from_utf8(self.take(len)?).ok()?;
        self.stack.push(PyString::new(self.py, text).into_any());
        Some(())
    }

    fn bytes(&mut self, len: usize) -> Option<()> {
        let bytes = PyBytes::new(self.py, self.take(len)?);
        self.stack.push(bytes.into_any());
        Some(())
    }

    fn tuple(&mut self, count: usize) -> Option<()> {
        let py = self.py;
        let tuple = PyTuple::new(py, self.top(count)?).ok()?;
        self.stack.push(tuple.into_any());
        Some(())
    }

    fn append(&mut self, count: usize) -> Option<()> {
        let list = self.below(count)?.cast_exact::<PyList>().ok()?.clone();
        for item in self.top(count)? {
            list.append(item).ok()?;
        }
        Some(())
    }

    fn set_items(&mut self, count: usize) -> Option<()> {
        if !count.is_multiple_of(2) {
            return None;
        }
        let dict = self.below(count)?.cast_exact::<PyDict>().ok()?.clone();
        let mut items = self.top(count)?;
        while let (Some(key), Some(item)) = (items.next(), items.next()) {
            // A key that cannot be hashed: the pickle module shall say so.
            dict.set_item(key, item).ok()?;
        }
        Some(())
    }
}
