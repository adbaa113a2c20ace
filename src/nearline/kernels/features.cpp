// Features of candidates, as dicts out of a request, to a block of numbers: 5,000 values in a request are 5,000 objects,
// and Python takes as long to walk through them as to read them.
#include <nanobind/nanobind.h>

#include <cmath>
#include <cstdint>
#include <string_view>
#include <vector>

#include "buffers.hpp"
#include "json_features.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::require_that;

namespace {

bool are_equal(PyObject* a, PyObject* b) {
  return a == b || (PyUnicode_CheckExact(a) && PyUnicode_CheckExact(b) && PyUnicode_Compare(a, b) == 0);
}

// The values of a dict whose keys are these, in this order, into `out`; false if it is any other, or has a value that is
// no finite float.
bool read_row(PyObject* features, PyObject* const* keys, Py_ssize_t count, double* out) {
  if (!PyDict_CheckExact(features) || PyDict_GET_SIZE(features) != count) return false;
  PyObject *key, *value;
  Py_ssize_t at = 0, i = 0;
  while (PyDict_Next(features, &at, &key, &value)) {
    if (!PyFloat_CheckExact(value) || !are_equal(key, keys[i])) return false;
    const double number = PyFloat_AS_DOUBLE(value);
    if (!std::isfinite(number)) return false;
    out[i++] = number;
  }
  return true;
}

// out [rows][keys] <- the values of each of `rows`, which are {bag: features}; whether all are that and nothing else,
// with these keys in this order, and finite floats. If not, what `out` has is of no use.
bool read_alike(nb::list rows, nb::str bag, nb::tuple keys, nb::handle out_array) {
  const Array<double> out(out_array, "out");
  const auto count = static_cast<Py_ssize_t>(keys.size()), size = static_cast<Py_ssize_t>(rows.size());
  require_that(out.size() == size * count, "out: expected a value for each row and key");
  PyObject* const* names = reinterpret_cast<PyTupleObject*>(keys.ptr())->ob_item;
  for (Py_ssize_t row = 0; row < size; ++row) {
    PyObject* bags = PyList_GET_ITEM(rows.ptr(), row);
    if (!PyDict_CheckExact(bags) || PyDict_GET_SIZE(bags) != 1) return false;
    PyObject *key, *features;
    Py_ssize_t at = 0;
    PyDict_Next(bags, &at, &key, &features);
    if (!are_equal(key, bag.ptr()) || !read_row(features, names, count, out.data() + row * count)) return false;
  }
  return true;
}

// A view of bytes-like objects, for as long as this lives.
class View {
 public:
  explicit View(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View() { PyBuffer_Release(&view_); }
  std::string_view text() const { return {static_cast<const char*>(view_.buf), static_cast<size_t>(view_.len)}; }

 private:
  Py_buffer view_{};
};

// The same of rows that are JSON; bag and keys are strings of JSON.
bool read_json_alike(nb::list rows, nb::bytes bag, nb::list keys, nb::handle out_array) {
  const Array<double> out(out_array, "out");
  std::vector<std::string_view> names;
  names.reserve(keys.size());
  for (nb::handle key : keys) {
    const auto text = nb::cast<nb::bytes>(key);
    names.emplace_back(text.c_str(), text.size());
  }
  require_that(out.size() == static_cast<int64_t>(rows.size() * names.size()), "out: expected a value for each row and key");
  double* to = out.data();
  for (nb::handle row : rows) {
    const View view(row);
    if (!nearline::JsonFeatures(view.text()).read({bag.c_str(), bag.size()}, names, to)) return false;
    to += names.size();
  }
  return true;
}

}  // namespace

NB_MODULE(_features, module) {
  nb::set_leak_warnings(false);
  module.def("read_alike", &read_alike);
  module.def("read_json_alike", &read_json_alike);
}
