// Arrays of NumPy's, read by the C structure behind them: a few nanoseconds each. nb::ndarray asks an array by way of
// Python, which costs more than to score a request, and the buffer protocol a tenth of a microsecond.
#pragma once

#define NPY_NO_DEPRECATED_API NPY_1_25_API_VERSION
#define NPY_TARGET_VERSION NPY_1_25_API_VERSION
#include <nanobind/nanobind.h>
#include <numpy/ndarraytypes.h>

#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace nearline {

// Whether NumPy's number of a type is that of T.
template <class T>
bool is_type_of(int number) {
  if constexpr (std::is_floating_point_v<T>) return number == (sizeof(T) == 8 ? NPY_DOUBLE : NPY_FLOAT);
  else if constexpr (sizeof(T) == 8 && std::is_signed_v<T>) return number == NPY_LONG || number == NPY_LONGLONG;
  else if constexpr (sizeof(T) == 8) return number == NPY_ULONG || number == NPY_ULONGLONG;
  else if constexpr (sizeof(T) == 4) return number == NPY_INT;
  else return std::is_signed_v<T> ? number == NPY_BYTE : number == NPY_UBYTE || number == NPY_BOOL;
}
static_assert(sizeof(long) == 8, "NPY_LONG stands for 8 bytes");

inline bool is_array(nanobind::handle object) {
  static PyObject* const type = nanobind::object(nanobind::module_::import_("numpy").attr("ndarray")).release().ptr();
  return PyObject_TypeCheck(object.ptr(), reinterpret_cast<PyTypeObject*>(type));
}

// The array behind a Python object if it holds T (writable ones, unless T is const), in native order, aligned and
// C-contiguous; else null.
template <class T>
PyArrayObject* array_behind(nanobind::handle object) {
  if (!is_array(object)) return nullptr;
  PyArrayObject* array = reinterpret_cast<PyArrayObject*>(object.ptr());
  const int wanted = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED | (std::is_const_v<T> ? 0 : NPY_ARRAY_WRITEABLE);
  const bool fits = (PyArray_FLAGS(array) & wanted) == wanted && PyArray_DESCR(array)->byteorder != NPY_OPPBYTE &&
                    is_type_of<std::remove_const_t<T>>(PyArray_DESCR(array)->type_num);
  return fits ? array : nullptr;
}

inline int64_t size_of(PyArrayObject* array) {
  int64_t size = 1;
  for (int k = 0; k < PyArray_NDIM(array); ++k) size *= PyArray_DIMS(array)[k];
  return size;
}

// The values of a C-contiguous array of T, which lives at least as long as this. None has none.
template <class T>
class Array {
 public:
  Array(nanobind::handle array, const char* name) {
    if (array.is_none()) return;
    PyArrayObject* found = array_behind<T>(array);
    if (!found) throw std::invalid_argument(std::string(name) + ": expected a C-contiguous array of the documented dtype");
    owner_ = nanobind::borrow(array);
    data_ = static_cast<T*>(PyArray_DATA(found));
    size_ = size_of(found);
  }

  explicit operator bool() const { return owner_.is_valid(); }
  T* data() const { return data_; }
  int64_t size() const { return size_; }
  T& operator[](int64_t i) const { return data_[i]; }

 private:
  nanobind::object owner_;
  T* data_ = nullptr;
  int64_t size_ = 0;
};

inline void require_that(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

}  // namespace nearline
