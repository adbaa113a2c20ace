// Records of entities to bytes and back; the layout is described in nearline/store/codec.py.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

namespace nb = nanobind;
using nb::literals::operator""_a;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "records are little endian, and copied as they are");

namespace {

constexpr uint8_t kFormat = 1, kFull = 1, kSingle = 2;
constexpr size_t kHead = 48;

// What is wrong with a value; the texts are in codec.py, in this order.
enum Fault : int8_t { kSound, kTooShort, kNewer, kNotRecord, kOtherForm, kSize, kChecksum, kColumns, kCounts, kFinite };

template <typename T>
using In = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using New = nb::ndarray<nb::numpy, T, nb::ndim<1>>;

struct Bytes {
  const uint8_t* data;
  size_t size;
};

struct Layout {
  uint64_t column, shift, precision, size;  // offsets, and the whole; 0 if it would not fit in memory
};

uint64_t padded(uint64_t size) { return (size + 7) / 8 * 8; }

uint64_t numbers_in(uint64_t d, uint8_t form) { return form & kFull ? d * (d + 1) / 2 : d; }

Layout layout(uint64_t d, uint8_t form) {  // d is below 2^32, so that nothing here leaves 64 bits but 8 d^2 / 2
  if (d >= uint64_t{1} << 30) return {0, 0, 0, 0};
  const uint64_t shift = kHead + padded(4 * d), precision = shift + 8 * d;
  return {kHead, shift, precision, precision + padded(numbers_in(d, form) * (form & kSingle ? 4 : 8))};
}

template <typename T>
T load(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void store(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

uint64_t checksum(const uint8_t* record, size_t size) {
  constexpr uint64_t kGolden = 0x9E3779B97F4A7C15;
  uint64_t sum = 0, multiplier = 0;
  for (size_t at = 0; at < size; at += 8) {
    multiplier += kGolden;
    const uint64_t word = at == 8 ? 0 : load<uint64_t>(record + at);  // not of itself
    sum += (word ^ (word >> 32)) * (multiplier | 1);
  }
  return sum;
}

bool finite(const double* numbers, size_t count) {
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};  // 0 times a number is 0, unless the number is not finite
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes)
    for (size_t lane = 0; lane < kLanes; ++lane) sums[lane] += 0.0 * numbers[i + lane];
  for (; i < count; ++i) sums[0] += 0.0 * numbers[i];
  double sum = 0.0;
  for (double each : sums) sum += each;
  return sum == 0.0;
}

Bytes bytes_of(PyObject* value) {
  if (PyBytes_Check(value))
    return {reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(value)), static_cast<size_t>(PyBytes_GET_SIZE(value))};
  if (PyMemoryView_Check(value) && PyBuffer_IsContiguous(PyMemoryView_GET_BUFFER(value), 'C')) {
    const Py_buffer* buffer = PyMemoryView_GET_BUFFER(value);
    return {static_cast<const uint8_t*>(buffer->buf), static_cast<size_t>(buffer->len)};
  }
  throw nb::type_error("values: expected bytes, a memoryview or None");
}

template <typename T>
New<T> array(size_t size) {
  auto data = std::make_unique<T[]>(size);
  T* raw = data.release();
  const nb::capsule owner(raw, [](void* p) noexcept { delete[] static_cast<T*>(p); });
  return New<T>(raw, {size}, owner);
}

Fault look(Bytes value, bool full, uint64_t& d) {
  d = 0;
  if (value.size < kHead) return kTooShort;
  const uint8_t form = value.data[1];
  if (value.data[0] > kFormat) return kNewer;
  if (value.data[0] < 1 || form & ~(kFull | kSingle) || load<uint16_t>(value.data + 2) != 0) return kNotRecord;
  if (((form & kFull) != 0) != full) return kOtherForm;
  const uint64_t columns = load<uint32_t>(value.data + 4);
  if (layout(columns, form).size != value.size) return kSize;
  d = columns;
  return kSound;
}

// The number of columns of each value, and what is wrong with its head or its size.
std::pair<New<int64_t>, New<int8_t>> sizes(const nb::list& values, bool full) {
  const size_t n = values.size();
  auto size = array<int64_t>(n);
  auto fault = array<int8_t>(n);
  for (size_t i = 0; i < n; ++i) {
    PyObject* value = PyList_GET_ITEM(values.ptr(), static_cast<Py_ssize_t>(i));
    uint64_t d = 0;
    fault.data()[i] = value == Py_None ? kSound : look(bytes_of(value), full, d);
    size.data()[i] = static_cast<int64_t>(d);
  }
  return {size, fault};
}

void require_starts(const In<int64_t>& start, size_t n, size_t available) {
  if (start.shape(0) != n + 1 || start.data()[0] != 0) throw nb::value_error("start: expected n + 1 numbers from 0");
  for (size_t i = 0; i < n; ++i)
    if (start.data()[i + 1] < start.data()[i]) throw nb::value_error("start: expected numbers that do not fall");
  if (static_cast<uint64_t>(start.data()[n]) > available) throw nb::value_error("start: beyond the numbers there are");
}

Fault read(Bytes value, bool full, int32_t* column, double* shift_at, double* precision_at) {
  uint64_t d;
  if (const Fault fault = look(value, full, d)) return fault;
  const uint8_t form = value.data[1];
  const Layout at = layout(d, form);
  if (load<uint64_t>(value.data + 8) != checksum(value.data, value.size)) return kChecksum;
  if (load<int64_t>(value.data + 16) < 1 || load<int64_t>(value.data + 40) < 0) return kCounts;
  if (d > 0) {
    std::memcpy(column, value.data + at.column, 4 * d);
    std::memcpy(shift_at, value.data + at.shift, 8 * d);
  }
  bool ascending = d == 0 || column[0] >= 0;
  for (uint64_t j = 1; j < d; ++j) ascending &= column[j] > column[j - 1];
  if (!ascending) return kColumns;
  const uint64_t count = numbers_in(d, form);
  const uint8_t* from = value.data + at.precision;
  if (form & kSingle) {
    for (uint64_t j = 0; j < count; ++j) precision_at[j] = load<float>(from + 4 * j);
  } else if (count > 0) {
    std::memcpy(precision_at, from, 8 * count);
  }
  return finite(shift_at, d) && finite(precision_at, count) ? kSound : kFinite;
}

// Fills the arrays from values that `sizes` found sound; returns what is wrong inside each.
New<int8_t> decode(const nb::list& values, bool full, const In<int64_t>& start, const In<int64_t>& packed_start,
                   const Out<int64_t>& version, const Out<int64_t>& position, const Out<int64_t>& as_of_ms,
                   const Out<int64_t>& rows, const Out<int32_t>& column, const Out<double>& shift,
                   const Out<double>& precision) {
  const size_t n = values.size();
  require_starts(start, n, std::min(column.shape(0), shift.shape(0)));
  require_starts(packed_start, n, precision.shape(0));
  for (const auto* each : {&version, &position, &as_of_ms, &rows})
    if (each->shape(0) != n) throw nb::value_error("expected a number for each value");
  auto fault = array<int8_t>(n);
  for (size_t i = 0; i < n; ++i) {
    fault.data()[i] = kSound;
    PyObject* item = PyList_GET_ITEM(values.ptr(), static_cast<Py_ssize_t>(i));
    int64_t* const counts[] = {version.data() + i, position.data() + i, as_of_ms.data() + i, rows.data() + i};
    for (int64_t* each : counts) *each = 0;
    if (item == Py_None) continue;
    const Bytes value = bytes_of(item);
    uint64_t d;
    const Fault seen = look(value, full, d);
    const int64_t begin = start.data()[i], packed = packed_start.data()[i];
    if (seen == kSound && (static_cast<uint64_t>(start.data()[i + 1] - begin) != d ||
                           static_cast<uint64_t>(packed_start.data()[i + 1] - packed) !=
                               numbers_in(d, full ? kFull : 0)))
      throw nb::value_error("start: expected the sizes of the values");
    fault.data()[i] = read(value, full, column.data() + begin, shift.data() + begin, precision.data() + packed);
    if (fault.data()[i] == kSound)
      for (size_t k = 0; k < 4; ++k) *counts[k] = load<int64_t>(value.data + 16 + 8 * k);
  }
  return fault;
}

// One value for each block.
nb::list encode(bool full, bool single, const In<int64_t>& start, const In<int64_t>& packed_start,
                const In<int64_t>& version, const In<int64_t>& position, const In<int64_t>& as_of_ms,
                const In<int64_t>& rows, const In<int32_t>& column, const In<double>& shift,
                const In<double>& precision) {
  const size_t n = version.shape(0);
  require_starts(start, n, std::min(column.shape(0), shift.shape(0)));
  require_starts(packed_start, n, precision.shape(0));
  for (const auto* each : {&position, &as_of_ms, &rows})
    if (each->shape(0) != n) throw nb::value_error("expected a number for each block");
  const uint8_t form = static_cast<uint8_t>((full ? kFull : 0) | (single ? kSingle : 0));
  nb::list values = nb::steal<nb::list>(PyList_New(static_cast<Py_ssize_t>(n)));
  if (!values.is_valid()) throw nb::python_error();
  for (size_t i = 0; i < n; ++i) {
    const uint64_t d = static_cast<uint64_t>(start.data()[i + 1] - start.data()[i]), count = numbers_in(d, form);
    const Layout at = layout(d, form);
    if (at.size == 0) throw nb::value_error("start: expected fewer than 2^30 columns");
    if (static_cast<uint64_t>(packed_start.data()[i + 1] - packed_start.data()[i]) != count)
      throw nb::value_error("packed_start: expected the sizes of the blocks");
    PyObject* value = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(at.size));
    if (value == nullptr) throw nb::python_error();
    PyList_SET_ITEM(values.ptr(), static_cast<Py_ssize_t>(i), value);
    auto* to = reinterpret_cast<uint8_t*>(PyBytes_AS_STRING(value));
    store<uint64_t>(to, kFormat | static_cast<uint64_t>(form) << 8 | d << 32);
    store(to + 16, version.data()[i]);
    store(to + 24, position.data()[i]);
    store(to + 32, as_of_ms.data()[i]);
    store(to + 40, rows.data()[i]);
    std::memset(to + kHead + 4 * d, 0, at.shift - kHead - 4 * d);
    if (d > 0) {
      std::memcpy(to + at.column, column.data() + start.data()[i], 4 * d);
      std::memcpy(to + at.shift, shift.data() + start.data()[i], 8 * d);
    }
    const double* from = precision.data() + packed_start.data()[i];
    if (single) {
      for (uint64_t j = 0; j < count; ++j) store(to + at.precision + 4 * j, static_cast<float>(from[j]));
      std::memset(to + at.precision + 4 * count, 0, at.size - at.precision - 4 * count);
    } else if (count > 0) {
      std::memcpy(to + at.precision, from, 8 * count);
    }
    store(to + 8, checksum(to, at.size));
  }
  return values;
}

}  // namespace

NB_MODULE(_codec, m) {
  m.doc() = "Records of entities to bytes and back.";
  m.def("sizes", &sizes, "values"_a, "full"_a);
  m.def("decode", &decode, "values"_a, "full"_a, "start"_a, "packed_start"_a, "version"_a, "position"_a, "as_of_ms"_a,
        "rows"_a, "column"_a, "shift"_a, "precision"_a);
  m.def("encode", &encode, "full"_a, "single"_a, "start"_a, "packed_start"_a, "version"_a, "position"_a, "as_of_ms"_a,
        "rows"_a, "column"_a, "shift"_a, "precision"_a);
}
