// Records of impressions (MessagePack, see events/wire.py) to columns: no Python object for any feature of any row.
//
// Strings stay where they lie in the records while they are numbered. Impressions of one system have the same features
// in the same order, mostly: a key is first compared with the one at this place of the row before, then looked up.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <cstring>
#include <deque>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "messagepack.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;
using nearline::Malformed;
using nearline::Reader;

namespace {

constexpr uint8_t kFormat = 1;
constexpr uint64_t kImpression = 1;
constexpr int32_t kMissing = -1;
constexpr size_t kNumbers = 3;   // offset, fixed, weight
constexpr size_t kIntegers = 2;  // time_ms, generation

nb::object to_str(std::string_view text) {
  PyObject* made = PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), nullptr);
  if (made == nullptr) throw nb::python_error();
  return nb::steal(made);
}

// Strings to numbers in the order in which they come.
class Names {
 public:
  int32_t number(std::string_view name) {
    const auto [found, is_new] = numbers_.try_emplace(name, static_cast<int32_t>(names_.size()));
    if (is_new) names_.push_back(name);
    return found->second;
  }

  std::string_view operator[](int32_t number) const { return names_[static_cast<size_t>(number)]; }

  nb::list to_list() const {
    nb::list out;
    for (const std::string_view name : names_) out.append(to_str(name));
    return out;
  }

 private:
  std::unordered_map<std::string_view, int32_t> numbers_;
  std::vector<std::string_view> names_;
};

struct BagColumns {
  Names keys;
  std::vector<int32_t> ends{0}, columns;
  std::vector<double> values;
  std::vector<int32_t> expected;  // the number of the key at each place of the row before

  void add(std::string_view key, double value, size_t place) {
    if (place == expected.size()) expected.push_back(kMissing);
    int32_t& column = expected[place];
    if (column == kMissing || keys[column] != key) column = keys.number(key);
    if (value == 0.0) return;  // a feature of value 0 is no feature
    columns.push_back(column);
    values.push_back(value);
  }

  void end_row(size_t rows) { ends.resize(rows + 1, static_cast<int32_t>(values.size())); }
};

struct EntityColumns {
  Names names;
  std::vector<int32_t> codes;

  void end_row(size_t rows) { codes.resize(rows, kMissing); }
};

struct EffectColumns {
  std::vector<double> mean, variance;

  void end_row(size_t rows) {
    mean.resize(rows, 0.0);
    variance.resize(rows, 0.0);
  }
};

// Columns by name, in the order in which the names come. There are few: a search is quicker than a hash.
template <typename Column>
class ByName {
 public:
  Column& at(std::string_view name, size_t row) {
    for (auto& [known, column] : columns_)
      if (known == name) return *column;
    columns_.emplace_back(name, std::make_unique<Column>());
    columns_.back().second->end_row(row);
    return *columns_.back().second;
  }

  void end_row(size_t rows) {
    for (auto& [name, column] : columns_) column->end_row(rows);
  }

  std::vector<std::pair<std::string_view, std::unique_ptr<Column>>>& all() { return columns_; }

 private:
  std::vector<std::pair<std::string_view, std::unique_ptr<Column>>> columns_;
};

struct Impressions {
  std::vector<double> numbers;
  std::vector<int64_t> integers;
  ByName<BagColumns> bags;
  ByName<EntityColumns> entities;
  ByName<EffectColumns> effects;
  std::deque<std::string> positions;  // "0", "1", ...: the names of a dense vector's features; they never move

  void add(Reader reader, size_t row) {
    size_t fields = reader.array();
    if (fields < 3) throw Malformed("too few fields");
    if (reader.integer() != static_cast<int64_t>(kImpression)) throw Malformed("not an impression");
    double* number = &numbers[kNumbers * row];
    int64_t* integer = &integers[kIntegers * row];
    number[2] = 1.0;
    for (size_t field = 1; field < fields; ++field) {
      switch (field) {
        case 2: integer[0] = reader.integer(); break;
        case 3: read_entities(reader, row); break;
        case 4: read_features(reader, row); break;
        case 5: read_contributions(reader, row); break;
        case 6: number[0] = reader.number(); break;
        case 7: number[1] = reader.number(); break;
        case 10: integer[1] = reader.integer(); break;
        case 13: number[2] = reader.number(); break;
        default: reader.skip();
      }
    }
    if (!reader.at_end()) throw Malformed("more than an impression");
    bags.end_row(row + 1);
    entities.end_row(row + 1);
    effects.end_row(row + 1);
  }

 private:
  void read_entities(Reader& reader, size_t row) {
    for (size_t left = reader.map(); left > 0; --left) {
      EntityColumns& column = entities.at(reader.text(), row);
      column.codes.resize(row + 1, kMissing);
      column.codes[row] = column.names.number(reader.text());
    }
  }

  void read_features(Reader& reader, size_t row) {
    for (size_t left = reader.map(); left > 0; --left) {
      BagColumns& bag = bags.at(reader.text(), row);
      const bool dense = reader.is_array();
      const size_t size = dense ? reader.array() : reader.map();
      for (size_t place = 0; place < size; ++place) {
        const std::string_view key = dense ? position(place) : reader.text();
        bag.add(key, reader.number(), place);
      }
    }
  }

  void read_contributions(Reader& reader, size_t row) {
    for (size_t left = reader.map(); left > 0; --left) {
      EffectColumns& column = effects.at(reader.text(), row);
      if (reader.array() != 2) throw Malformed("expected a mean and a variance");
      column.end_row(row + 1);
      column.mean[row] = reader.number();
      column.variance[row] = reader.number();
    }
  }

  std::string_view position(size_t place) {
    if (place == positions.size()) positions.push_back(std::to_string(place));
    return positions[place];
  }
};

template <typename T>
nb::object to_numpy(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  const nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner));
}

nb::tuple read_impressions(const nb::list& records) {
  const size_t rows = records.size();
  std::vector<std::pair<const uint8_t*, size_t>> bytes;
  bytes.reserve(rows);
  for (const nb::handle record : records) {
    if (!PyBytes_Check(record.ptr())) throw nb::type_error("records: expected bytes");
    bytes.emplace_back(reinterpret_cast<const uint8_t*>(PyBytes_AS_STRING(record.ptr())),
                       static_cast<size_t>(PyBytes_GET_SIZE(record.ptr())));
  }
  Impressions found;
  found.numbers.resize(kNumbers * rows);
  found.integers.resize(kIntegers * rows);
  for (size_t row = 0; row < rows; ++row) {
    const auto [data, size] = bytes[row];
    try {
      if (size == 0 || data[0] != kFormat) throw Malformed("another format");
      found.add(Reader(data + 1, size - 1), row);
    } catch (const Malformed& error) {
      throw nb::value_error(("record " + std::to_string(row) + ": " + error.what()).c_str());
    }
  }
  nb::list bags, entities, effects;
  for (auto& [name, bag] : found.bags.all())
    bags.append(nb::make_tuple(to_str(name), to_numpy(std::move(bag->ends)), to_numpy(std::move(bag->columns)),
                               to_numpy(std::move(bag->values)), bag->keys.to_list()));
  for (auto& [kind, column] : found.entities.all())
    entities.append(nb::make_tuple(to_str(kind), to_numpy(std::move(column->codes)), column->names.to_list()));
  for (auto& [effect, column] : found.effects.all())
    effects.append(
        nb::make_tuple(to_str(effect), to_numpy(std::move(column->mean)), to_numpy(std::move(column->variance))));
  return nb::make_tuple(to_numpy(std::move(found.numbers)), to_numpy(std::move(found.integers)), bags, entities,
                        effects);
}

}  // namespace

NB_MODULE(_impressions, m) { m.def("read_impressions", &read_impressions, "records"_a); }
