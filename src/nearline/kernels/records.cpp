// Records cut out of what they are kept in: a block of the log, or the row of a join.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nb = nanobind;
using nb::literals::operator""_a;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lengths are little endian, and read as they are");

namespace {

std::string_view view_of(nb::handle object) {
  if (!PyBytes_Check(object.ptr())) throw nb::type_error("expected bytes");
  return {PyBytes_AS_STRING(object.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(object.ptr()))};
}

nb::bytes to_bytes(std::string_view text) { return nb::bytes(text.data(), text.size()); }

nb::list split_block(const nb::bytes& block, size_t lengths, size_t count, size_t start, size_t stop) {
  const std::string_view bytes = view_of(block);
  if (lengths > bytes.size() || count > (bytes.size() - lengths) / 4) throw nb::value_error("a block cut short");
  size_t at = lengths + 4 * count;
  nb::list found;
  for (size_t i = 0; i < count && i < stop; ++i) {
    uint32_t size;
    std::memcpy(&size, bytes.data() + lengths + 4 * i, sizeof size);
    if (size > bytes.size() - at) throw nb::value_error("a block cut short");
    if (i >= start) found.append(to_bytes(bytes.substr(at, size)));
    at += size;
  }
  return found;
}

nb::tuple split_rows(const nb::list& rows, size_t header) {
  std::string headers;
  headers.reserve(header * rows.size());
  nb::list rests;
  for (const nb::handle row : rows) {
    const std::string_view bytes = view_of(row);
    if (bytes.size() < header) break;
    headers.append(bytes.substr(0, header));
    rests.append(to_bytes(bytes.substr(header)));
  }
  return nb::make_tuple(to_bytes(headers), rests);
}

}  // namespace

NB_MODULE(_records, m) {
  m.def("split_block", &split_block, "block"_a, "lengths"_a, "count"_a, "start"_a, "stop"_a);
  m.def("split_rows", &split_rows, "rows"_a, "header"_a);
}
