// Rows of columns, written into a template: constant bytes with a value of each column in between. A reply to a request
// and the records of what it shows differ from row to row in a dozen numbers and two names; the rest is made once.
//
// A column is an array of float64 or int64, or a list of str, of int, or of bytes that are written as they are. An array
// of two dimensions is as many columns as it has.
#include <nanobind/nanobind.h>

#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "buffers.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::require_that;

namespace {

std::string_view bytes_of(nb::handle object) {
  char* data = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(object.ptr(), &data, &size) != 0) throw nb::python_error();
  return {data, static_cast<size_t>(size)};
}

std::string_view text_of(nb::handle object) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (!data) throw nb::python_error();
  return {data, static_cast<size_t>(size)};
}

// JSON (RFC 8259). The shortest digits that are read back as the same number; null for one that is not finite.
struct Json {
  static void number(std::string& out, double value) {
    if (!std::isfinite(value)) {
      out += "null";
      return;
    }
    char digits[32];
    const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    out.append(digits, static_cast<size_t>(end - digits));
    if (std::string_view(digits, static_cast<size_t>(end - digits)).find_first_of(".e") == std::string_view::npos)
      out += ".0";
  }
  static void number(std::string& out, int64_t value) {
    char digits[24];
    out.append(digits, static_cast<size_t>(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
  }
  static void text(std::string& out, std::string_view value) {
    static const char hexadecimal[] = "0123456789abcdef";
    out += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') {
        out += '\\';
        out += c;
      } else if (static_cast<unsigned char>(c) < 0x20) {
        out += "\\u00";
        out += hexadecimal[(c >> 4) & 0xf];
        out += hexadecimal[c & 0xf];
      } else {
        out += c;
      }
    }
    out += '"';
  }
};

// MessagePack: https://github.com/msgpack/msgpack/blob/master/spec.md
struct MessagePack {
  template <class T>
  static void big_endian(std::string& out, T value) {
    for (int shift = 8 * (static_cast<int>(sizeof(T)) - 1); shift >= 0; shift -= 8)
      out += static_cast<char>((value >> shift) & 0xff);
  }
  static void number(std::string& out, double value) {
    uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    out += '\xcb';
    big_endian(out, bits);
  }
  static void number(std::string& out, int64_t value) {
    if (value >= 0 && value < 128) {
      out += static_cast<char>(value);
      return;
    }
    if (value >= 0 && value < (int64_t{1} << 32)) {
      out += '\xce';
      big_endian(out, static_cast<uint32_t>(value));
      return;
    }
    out += '\xd3';
    big_endian(out, static_cast<uint64_t>(value));
  }
  static void text(std::string& out, std::string_view value) {
    require_that(value.size() < (uint64_t{1} << 32), "a text of 4 GiB or more");
    if (value.size() < 32) {
      out += static_cast<char>(0xa0 | value.size());
    } else if (value.size() < 256) {
      out += '\xd9';
      big_endian(out, static_cast<uint8_t>(value.size()));
    } else if (value.size() < 65536) {
      out += '\xda';
      big_endian(out, static_cast<uint16_t>(value.size()));
    } else {
      out += '\xdb';
      big_endian(out, static_cast<uint32_t>(value.size()));
    }
    out += value;
  }
};

// A column, of whichever kind it is.
class Column {
 public:
  explicit Column(nb::handle values) : list_(nb::borrow(values)), floats_(nb::none(), ""), integers_(nb::none(), "") {
    if (PyList_Check(values.ptr())) {
      size_ = PyList_GET_SIZE(values.ptr());
      return;
    }
    PyArrayObject* doubles = nearline::array_behind<const double>(values);
    if (doubles) floats_ = Array<const double>(values, "column");
    else integers_ = Array<const int64_t>(values, "column");
    PyArrayObject* array = doubles ? doubles : nearline::array_behind<const int64_t>(values);
    require_that(array && (PyArray_NDIM(array) == 1 || PyArray_NDIM(array) == 2), "a column has one dimension, or two");
    size_ = PyArray_DIMS(array)[0];
    if (PyArray_NDIM(array) == 2) width_ = PyArray_DIMS(array)[1];
  }
  int64_t size() const { return size_; }
  int64_t width() const { return width_; }

  // The value of row i in column j of this one.
  template <class Format>
  void write(std::string& out, int64_t i, int64_t j) const {
    if (floats_) return Format::number(out, floats_[i * width_ + j]);
    if (integers_) return Format::number(out, integers_[i * width_ + j]);
    const nb::handle item = PyList_GetItem(list_.ptr(), i);
    if (!item.is_valid()) throw nb::python_error();
    if (PyBytes_Check(item.ptr())) out += bytes_of(item);
    else if (PyLong_Check(item.ptr())) Format::number(out, nb::cast<int64_t>(item));
    else Format::text(out, text_of(item));
  }

 private:
  nb::object list_;
  Array<const double> floats_;
  Array<const int64_t> integers_;
  int64_t size_ = 0, width_ = 1;
};

struct Template {
  std::vector<std::string_view> fixed;   // one more than there are columns
  std::vector<Column> columns;
  int64_t rows = 0;

  Template(nb::list fixed_list, nb::list column_list) {
    for (nb::handle one : fixed_list) fixed.push_back(bytes_of(one));
    columns.reserve(column_list.size());
    for (nb::handle one : column_list) columns.emplace_back(one);
    size_t width = 0;
    for (const Column& column : columns) width += static_cast<size_t>(column.width());
    require_that(!columns.empty() && fixed.size() == width + 1, "expected bytes around every column");
    rows = columns.front().size();
    for (const Column& column : columns) require_that(column.size() == rows, "columns differ in length");
  }

  template <class Format>
  void write(std::string& out, int64_t row) const {
    auto between = fixed.begin();
    out += *between++;
    for (const Column& column : columns) {
      for (int64_t j = 0; j < column.width(); ++j) {
        column.write<Format>(out, row, j);
        out += *between++;
      }
    }
  }
};

nb::bytes json_rows(nb::list fixed, nb::list columns) {
  const Template made(fixed, columns);
  std::string out;
  for (int64_t row = 0; row < made.rows; ++row) {
    if (row > 0) out += ',';
    made.write<Json>(out, row);
  }
  return nb::bytes(out.data(), out.size());
}

nb::list message_pack_rows(nb::list fixed, nb::list columns) {
  const Template made(fixed, columns);
  nb::list rows;
  std::string out;
  for (int64_t row = 0; row < made.rows; ++row) {
    out.clear();
    made.write<MessagePack>(out, row);
    rows.append(nb::bytes(out.data(), out.size()));
  }
  return rows;
}

}  // namespace

NB_MODULE(_templates, module) {
  nb::set_leak_warnings(false);
  module.def("json_rows", &json_rows);
  module.def("message_pack_rows", &message_pack_rows);
}
