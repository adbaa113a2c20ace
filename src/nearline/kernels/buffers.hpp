// Arrays of Python's, borrowed by the buffer protocol: nb::ndarray asks the array by way of Python, which costs more
// than to score a request.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace nearline {

// Whether a format of the buffer protocol (struct's) is that of T, a number of that size in native order.
template <class T>
bool is_format_of(const char* format) {
  const char* codes = std::is_floating_point_v<T> ? (sizeof(T) == 8 ? "d" : "f")
                            : std::is_signed_v<T>       ? (sizeof(T) == 8 ? "lq" : sizeof(T) == 4 ? "i" : "b")
                                                        : (sizeof(T) == 8 ? "LQ" : "?B");
  return format && format[0] != '\0' && format[1] == '\0' && std::strchr(codes, format[0]);
}

// The values of a C-contiguous array of double, int64_t or uint8_t (also bool), for as long as this lives. None has none.
template <class T>
class Array {
 public:
  Array(nanobind::handle array, const char* name) {
    if (array.is_none()) return;
    const int access = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (std::is_const_v<T> ? 0 : PyBUF_WRITABLE);
    if (PyObject_GetBuffer(array.ptr(), &view_, access) != 0) PyErr_Clear();
    else if (is_format_of<std::remove_const_t<T>>(view_.format)) return;
    PyBuffer_Release(&view_);
    throw std::invalid_argument(std::string(name) + ": expected a C-contiguous array of the documented dtype");
  }
  Array(Array&& other) noexcept : view_(std::exchange(other.view_, Py_buffer{})) {}
  Array(const Array&) = delete;
  Array& operator=(const Array&) = delete;
  Array& operator=(Array&& other) noexcept {
    std::swap(view_, other.view_);
    return *this;
  }
  ~Array() { PyBuffer_Release(&view_); }

  explicit operator bool() const { return view_.obj != nullptr; }
  T* data() const { return static_cast<T*>(view_.buf); }
  int64_t size() const { return view_.obj ? view_.len / static_cast<int64_t>(sizeof(T)) : 0; }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  Py_buffer view_{};
};

inline void require_that(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

}  // namespace nearline
