// Names to numbers, many at once: what a hundred look-ups in a dict cost is mostly waiting for memory, one after the
// other. Here the places of all names are asked for before the first is looked at.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "buffers.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::require_that;

namespace {

constexpr int64_t kNone = -1;

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

// A hash table with open addressing and linear probing; an entry that goes draws those behind it up (Knuth, The Art of
// Computer Programming 3, 6.4, algorithm R). At most half of the places are taken.
class Names {
 public:
  int64_t size() const { return size_; }

  int64_t get(nb::handle name) const {
    std::string_view text;
    if (!text_of(name.ptr(), text)) return kNone;
    const Place& place = places_[find(text, hash(text))];
    return place.number;
  }

  void put(nb::handle name, int64_t number) {
    require_that(number >= 0, "number: expected 0 or more");
    std::string_view text;
    if (!text_of(name.ptr(), text)) throw nb::value_error("a name that UTF-8 cannot write");
    if (2 * (size_ + 1) > static_cast<int64_t>(places_.size())) grow();
    const uint64_t hashed = hash(text);
    Place& place = places_[find(text, hashed)];
    if (place.number == kNone) {
      ++size_;
      place.hash = hashed;
      place.name = text;
    }
    place.number = number;
  }

  // The number that the name had, -1 if none.
  int64_t remove(nb::handle name) {
    std::string_view text;
    if (!text_of(name.ptr(), text)) return kNone;
    size_t hole = find(text, hash(text));
    const int64_t number = places_[hole].number;
    if (number == kNone) return kNone;
    --size_;
    for (size_t at = next(hole); places_[at].number != kNone; at = next(at)) {
      const size_t home = places_[at].hash & mask();
      if (((at - home) & mask()) < ((at - hole) & mask())) continue;   // the hole lies before its home
      places_[hole] = std::move(places_[at]);
      hole = at;
    }
    places_[hole] = Place{};
    return number;
  }

  // The number of each name into `out`, -1 of one that is not here; returns of how many that is so.
  int64_t find_many(nb::handle names, nb::handle out_array) const {
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
        is_text[i] = text_of(items[begin + i], texts[i]);
        hashes[i] = is_text[i] ? hash(texts[i]) : 0;
        __builtin_prefetch(&places_[hashes[i] & mask()]);
      }
      for (Py_ssize_t i = 0; i < n; ++i) {
        const int64_t number = is_text[i] ? places_[find(texts[i], hashes[i])].number : kNone;
        out[begin + i] = number;
        missing += number == kNone;
      }
    }
    return missing;
  }

 private:
  struct Place {
    uint64_t hash = 0;
    int64_t number = kNone;
    std::string name;   // short ones lie here, without another look into memory
  };

  static uint64_t hash(std::string_view text) { return std::hash<std::string_view>{}(text); }
  size_t mask() const { return places_.size() - 1; }
  size_t next(size_t at) const { return (at + 1) & mask(); }

  // Where the name is, or where it would go.
  size_t find(std::string_view text, uint64_t hashed) const {
    size_t at = hashed & mask();
    while (places_[at].number != kNone && (places_[at].hash != hashed || places_[at].name != text)) at = next(at);
    return at;
  }

  void grow() {
    std::vector<Place> before(2 * places_.size());
    before.swap(places_);
    for (Place& place : before)
      if (place.number != kNone) places_[find(place.name, place.hash)] = std::move(place);
  }

  std::vector<Place> places_ = std::vector<Place>(16);
  int64_t size_ = 0;
};

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
      .def("find", &Names::find_many);
  module.def("read_texts", &read_texts);
}
