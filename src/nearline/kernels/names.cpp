// Names to numbers, many at once: what a hundred look-ups in a dict cost is mostly waiting for memory, one after the
// other. Here the places of all names are asked for before the first is looked at.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string_view>

#include "buffers.hpp"
#include "name_table.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::HashKey;
using nearline::NameTable;
using nearline::require_that;

namespace {

constexpr int64_t kNone = NameTable::kNone;

// The UTF-8 of a str, which lives as long as that; false if UTF-8 cannot write it, so that nothing is called so.
bool text_of(PyObject* object, std::string_view& text) {
  if (!PyUnicode_Check(object)) throw nb::type_error("expected names");
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(object, &size);
  if (!data) {
    PyErr_Clear();
    return false;
  }
  text = {data, static_cast<size_t>(size)};
  return true;
}

// The secret of this process's tables.
HashKey hash_key() {
  static const HashKey key = [] {
    std::random_device random;
    const auto word = [&] { return static_cast<uint64_t>(random()) << 32 | random(); };
    return HashKey{word(), word()};
  }();
  return key;
}

class Names {
 public:
  int64_t size() const { return table_.size(); }

  int64_t get(nb::handle name) const {
    std::string_view text;
    return text_of(name.ptr(), text) ? table_.get(text) : kNone;
  }

  void put(nb::handle name, int64_t number) {
    require_that(number >= 0, "number: expected 0 or more");
    std::string_view text;
    if (!text_of(name.ptr(), text)) throw nb::value_error("a name that UTF-8 cannot write");
    table_.put(text, number);
  }

  // The number that the name had, -1 if none.
  int64_t remove(nb::handle name) {
    std::string_view text;
    return text_of(name.ptr(), text) ? table_.remove(text) : kNone;
  }

  // The number of each name into `out`, -1 of one that is not here; returns of how many that is so.
  int64_t find_many(nb::handle names, nb::handle out_array) const {
    return find_texts(names, out_array, [](PyObject* item, std::string_view& text) { return text_of(item, text); });
  }

  // The same of a list in which there is nothing but str of at most so many bytes; -1 if there is anything else.
  int64_t find_plain(nb::handle names, nb::handle out_array, int64_t longest) const {
    bool plain = true;
    const int64_t missing = find_texts(names, out_array, [&](PyObject* item, std::string_view& text) {
      const bool is_text = PyUnicode_Check(item) && text_of(item, text);
      plain = plain && is_text && static_cast<int64_t>(text.size()) <= longest;
      return is_text;
    });
    return plain ? missing : -1;
  }

 private:
  template <class Read>
  int64_t find_texts(nb::handle names, nb::handle out_array, const Read& read) const {
    const Array<int64_t> out(out_array, "out");
    const nb::object sequence = nb::steal(PySequence_Fast(names.ptr(), "expected a sequence of names"));
    if (!sequence.is_valid()) throw nb::python_error();
    const Py_ssize_t count = PySequence_Fast_GET_SIZE(sequence.ptr());
    PyObject** items = PySequence_Fast_ITEMS(sequence.ptr());
    require_that(out.size() == count, "out: expected a place for each name");
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
        const int64_t number = is_text[i] ? table_.get(texts[i], hashes[i]) : kNone;
        out[begin + i] = number;
        missing += number == kNone;
      }
    }
    return missing;
  }

  NameTable table_{hash_key()};
};

// SipHash-2-4 of a text under a key of 16 bytes: what the hash is held to, by its authors' figures.
uint64_t siphash_2_4(nb::bytes key, nb::bytes text) {
  require_that(key.size() == 16, "key: expected 16 bytes");
  const auto* bytes = reinterpret_cast<const uint8_t*>(key.c_str());
  const auto word = [&](int at) {
    uint64_t found = 0;
    for (int i = 0; i < 8; ++i) found |= static_cast<uint64_t>(bytes[at + i]) << (8 * i);
    return found;
  };
  return nearline::siphash<2, 4>({word(0), word(8)}, {text.c_str(), text.size()});
}

// Texts, each after its length, uint32 little endian.
nb::list read_texts(nb::bytes content) {
  const auto* data = reinterpret_cast<const uint8_t*>(content.c_str());
  const size_t end = content.size();
  nb::list texts;
  for (size_t at = 0; at < end;) {
    require_that(end - at >= 4, "a length of four bytes does not fit");
    const size_t size = data[at] | data[at + 1] << 8 | data[at + 2] << 16 | static_cast<size_t>(data[at + 3]) << 24;
    at += 4;
    require_that(end - at >= size, "a text is longer than what follows");
    PyObject* text = PyUnicode_DecodeUTF8(reinterpret_cast<const char*>(data + at), static_cast<Py_ssize_t>(size), nullptr);
    if (!text) throw nb::python_error();
    texts.append(nb::steal(text));
    at += size;
  }
  return texts;
}

}  // namespace

NB_MODULE(_names, module) {
  nb::set_leak_warnings(false);
  nb::class_<Names>(module, "Names")
      .def(nb::init<>())
      .def("__len__", &Names::size)
      .def("get", &Names::get)
      .def("put", &Names::put)
      .def("remove", &Names::remove)
      .def("find", &Names::find_many)
      .def("find_plain", &Names::find_plain);
  module.def("siphash_2_4", &siphash_2_4);
  module.def("read_texts", &read_texts);
}
