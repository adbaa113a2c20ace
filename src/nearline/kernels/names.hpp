// A table of names for Python, many looked up at once: what a hundred look-ups in a dict cost is mostly waiting for
// memory, one after the other. Here the places of all names are asked for before the first is looked at.
#pragma once

#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "buffers.hpp"
#include "name_table.hpp"

namespace nearline {

// The UTF-8 of a str, which lives as long as that; false if UTF-8 cannot write it, so that nothing is called so.
inline bool text_of(PyObject* object, std::string_view& text) {
  if (!PyUnicode_Check(object)) throw nanobind::type_error("expected names");
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(object, &size);
  if (!data) {
    PyErr_Clear();
    return false;
  }
  text = {data, static_cast<size_t>(size)};
  return true;
}

class Names {
 public:
  explicit Names(HashKey key) : table_(key) {}
  int64_t size() const { return table_.size(); }

  int64_t get(nanobind::handle name) const {
    std::string_view text;
    return text_of(name.ptr(), text) ? table_.get(text) : NameTable::kNone;
  }

  void put(nanobind::handle name, int64_t number) {
    require_that(number >= 0, "number: expected 0 or more");
    std::string_view text;
    if (!text_of(name.ptr(), text)) throw nanobind::value_error("a name that UTF-8 cannot write");
    table_.put(text, number);
  }

  // The number that the name had, -1 if none.
  int64_t remove(nanobind::handle name) {
    std::string_view text;
    return text_of(name.ptr(), text) ? table_.remove(text) : NameTable::kNone;
  }

  // The number of each name into `out`, -1 of one that is not here; returns of how many that is so.
  int64_t find(nanobind::handle names, int64_t* out, int64_t count) const {
    return find_texts(names, out, count, [](PyObject* item, std::string_view& text) { return text_of(item, text); });
  }

  // The same of a list in which there is nothing but str of at most so many bytes; -1 if there is anything else.
  int64_t find_plain(nanobind::handle names, int64_t* out, int64_t count, int64_t longest) const {
    bool plain = true;
    const int64_t missing = find_texts(names, out, count, [&](PyObject* item, std::string_view& text) {
      const bool is_text = PyUnicode_Check(item) && text_of(item, text);
      plain = plain && is_text && static_cast<int64_t>(text.size()) <= longest;
      return is_text;
    });
    return plain ? missing : -1;
  }

 private:
  template <class Read>
  int64_t find_texts(nanobind::handle names, int64_t* out, int64_t size, const Read& read) const {
    const nanobind::object sequence = nanobind::steal(PySequence_Fast(names.ptr(), "expected a sequence of names"));
    if (!sequence.is_valid()) throw nanobind::python_error();
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence.ptr());
    PyObject** items = PySequence_Fast_ITEMS(sequence.ptr());
    require_that(size == count, "out: expected a place for each name");
    constexpr Py_ssize_t kTogether = 64;
    std::string_view texts[kTogether];
    uint64_t hashes[kTogether];
    bool is_text[kTogether];
    int64_t missing = 0;
    for (Py_ssize_t begin = 0; begin < count; begin += kTogether) {
      const Py_ssize_t n = std::min(kTogether, count - begin);
      for (Py_ssize_t i = 0; i < n; ++i) {
        is_text[i] = read(items[begin + i], texts[i]);
        hashes[i] = is_text[i] ? table_.hash(texts[i]) : 0;
        table_.prefetch(hashes[i]);
      }
      for (Py_ssize_t i = 0; i < n; ++i) {
        const int64_t number = is_text[i] ? table_.get(texts[i], hashes[i]) : NameTable::kNone;
        out[begin + i] = number;
        missing += number == NameTable::kNone;
      }
    }
    return missing;
  }

  NameTable table_;
};

}  // namespace nearline
