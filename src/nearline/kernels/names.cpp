// Tables of names, see names.hpp; texts out of bytes.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <new>

#include "buffers.hpp"
#include "name_table.hpp"
#include "names.hpp"

namespace nb = nanobind;
using nearline::Array;
using nearline::hash_key;
using nearline::Names;
using nearline::require_that;

namespace {

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
      .def("__init__", [](Names* self) { new (self) Names(hash_key()); })
      .def("__len__", &Names::size)
      .def("get", &Names::get)
      .def("put", &Names::put)
      .def("remove", &Names::remove)
      .def("find",
           [](const Names& self, nb::handle names, nb::handle out_array) {
             const Array<int64_t> out(out_array, "out");
             return self.find(names, out.data(), out.size());
           })
      .def("find_plain", [](const Names& self, nb::handle names, nb::handle out_array, int64_t longest) {
        const Array<int64_t> out(out_array, "out");
        return self.find_plain(names, out.data(), out.size(), longest);
      });
  module.def("siphash_2_4", &siphash_2_4);
  module.def("hash_here", [](nb::bytes text) { return nearline::siphash<1, 3>(hash_key(), {text.c_str(), text.size()}); });
  module.def("read_texts", &read_texts);
}
