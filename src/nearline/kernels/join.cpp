// The join of impressions and feedback: records and the state's entries in, rows and changed entries out.
#include <nanobind/nanobind.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "join_run.hpp"

namespace nb = nanobind;
using nb::literals::operator""_a;
using namespace nearline;

namespace {

constexpr char kCopy = static_cast<char>(128);  // stream/joined.py: a lower partition has the row too
constexpr size_t kRowHeader = 25;

nb::bytes to_bytes(std::string_view text) { return nb::bytes(text.data(), text.size()); }

std::string_view view_of(nb::handle object) {
  if (!PyBytes_Check(object.ptr())) throw nb::type_error("expected bytes");
  return {PyBytes_AS_STRING(object.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(object.ptr()))};
}

std::string_view text_of(nb::handle object) {
  Py_ssize_t size = 0;
  const char* data = PyUnicode_AsUTF8AndSize(object.ptr(), &size);
  if (data == nullptr) throw nb::python_error();
  return {data, static_cast<size_t>(size)};
}

nb::bytes to_row(const Row& row, std::string_view record, bool is_copy) {
  PyObject* made = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(kRowHeader + record.size()));
  if (made == nullptr) throw nb::python_error();
  char* at = PyBytes_AS_STRING(made);
  at[0] = static_cast<char>(static_cast<char>(row.kind) | (is_copy ? kCopy : 0));
  std::memcpy(at + 1, &row.label, 8);
  std::memcpy(at + 9, &row.weight, 8);
  std::memcpy(at + 17, &row.time_ms, 8);
  if (!record.empty()) std::memcpy(at + kRowHeader, record.data(), record.size());
  return nb::steal<nb::bytes>(made);
}

// Key and value. A pair of bytes is in no circle of references: the collector of such is told not to look at it.
nb::tuple to_entry(std::string_view key, std::string_view value) {
  nb::tuple entry = nb::make_tuple(to_bytes(key), to_bytes(value));
  PyObject_GC_UnTrack(entry.ptr());
  return entry;
}

nb::list to_list(const std::vector<std::string>& keys) {
  nb::list found;
  for (const std::string& key : keys) found.append(to_bytes(key));
  return found;
}

nb::list to_list(const std::vector<std::pair<std::string, std::string>>& entries) {
  nb::list found;
  for (const auto& [key, value] : entries) found.append(to_entry(key, value));
  return found;
}

nb::list to_list(const std::vector<const Shown*>& impressions, const std::vector<uint16_t>& pool) {
  nb::list found;
  std::string value;
  for (const Shown* shown : impressions) {
    value.clear();
    put_shown(value, *shown, pool);
    found.append(to_entry(shown_key(shown->close_ms, shown->id), value));
  }
  return found;
}

// `JoinRun`, which borrows its texts, with what it borrows them from.
class Run {
 public:
  Run(const nb::tuple& choices, const nb::object& owners, uint32_t partitions, int64_t high_ms, int64_t tick)
      : run_(choices_of(choices), high_ms, tick), partitions_(partitions) {
    if (partitions < 1 || partitions > 65536) throw nb::value_error("partitions: expected 1 to 65,536");
    std::vector<Routes::Owner> found;
    if (!owners.is_none()) {
      for (const nb::handle owner : owners) {
        keep(owner[0]);
        found.push_back({text_of(owner[0]), nb::cast<uint32_t>(owner[1])});
      }
    }
    reader_ = std::make_unique<HeadReader>(Routes(std::move(found), partitions, owners.is_none()), run_.pool);
  }

  nb::list read(const nb::list& records) {
    if (!records_.empty()) throw nb::value_error("records: they are there already");
    keep(records);
    records_.reserve(records.size());
    for (const nb::handle record : records) {
      keep(record);
      records_.push_back(view_of(record));
    }
    nb::list unread;
    run_.heads.reserve(records_.size());
    for (const std::string_view record : records_) {
      run_.heads.push_back(reader_->read(record));
      if (run_.heads.back().kind == EventKind::kUnread) unread.append(run_.heads.size() - 1);
    }
    return unread;
  }

  void tell_impression(size_t place, const nb::str& id, int64_t time_ms, int64_t resolves_ms, double weight,
                       const nb::tuple& partitions) {
    EventHead& head = told(place, EventKind::kImpression, id, time_ms);
    head.resolves_ms = resolves_ms;
    head.weight = weight;
    head.partitions = run_.pool.size();
    head.partition_count = static_cast<uint16_t>(partitions.size());
    for (const nb::handle partition : partitions) run_.pool.push_back(nb::cast<uint16_t>(partition));
  }

  void tell_feedback(size_t place, const nb::str& impression, int64_t time_ms, double label, double weight,
                     const nb::str& id) {
    EventHead& head = told(place, EventKind::kFeedback, impression, time_ms);
    keep(id);
    head.label = label;
    head.weight = weight;
    head.id = text_of(id);
  }

  void tell_tick(size_t place, int64_t time_ms) { told(place, EventKind::kTick, nb::str(""), time_ms); }

  nb::tuple span() {
    run_.look_ahead();
    return nb::make_tuple(run_.begin_ms(), run_.end_ms());
  }

  void due(const nb::list& closing, const nb::list& forgotten, const nb::list& waiting) {
    each_entry(closing, [&](auto key, auto value) { run_.add_close(key, value); });
    if (!forgotten.empty() && PyBytes_Check(forgotten[0].ptr())) {
      for (const nb::handle key : forgotten) keep(key), run_.add_forget(view_of(key), false);
    } else {
      each_entry(forgotten, [&](auto key, auto value) { run_.add_forget(key, has_answer(value)); });
    }
    each_entry(waiting, [&](auto key, auto value) { run_.add_waiting(key, value); });
  }

  nb::list names() const {
    nb::list found;
    for (const std::string_view name : run_.names()) found.append(to_bytes(name));
    return found;
  }

  nb::tuple index(const nb::list& entries) {
    std::vector<std::string> shown, waiting;
    each_entry(entries, [&](auto name, auto value) {
      if (run_.add_index(name, value, waiting)) shown.push_back(std::string(value).append(name));
    });
    std::sort(shown.begin(), shown.end());
    std::sort(waiting.begin(), waiting.end());
    return nb::make_tuple(to_list(shown), to_list(waiting));
  }

  void remembered(const nb::list& shown, const nb::list& waiting) {
    each_entry(shown, [&](auto key, auto value) { run_.add_shown(key, value); });
    each_entry(waiting, [&](auto key, auto value) { run_.add_orphan(key, value); });
  }

  void take(int64_t first) { run_.take(first, records_); }

  nb::dict rows() const {
    std::vector<nb::list> of_partition(partitions_);
    std::vector<uint16_t> everywhere;
    for (uint32_t i = 0; i < partitions_; ++i) everywhere.push_back(static_cast<uint16_t>(i));
    for (const Row& row : run_.rows) {
      const uint16_t* to = row.shown ? run_.pool.data() + row.shown->partitions : everywhere.data();
      const size_t count = row.shown ? row.shown->partition_count : everywhere.size();
      const std::string_view record = row.shown ? row.shown->record : std::string_view();
      for (size_t i = 0; i < count; ++i)
        if (to[i] >= partitions_) throw nb::value_error("the join's state: it was made for more partitions");
      if (count > 0) of_partition[to[0]].append(to_row(row, record, false));
      if (count < 2) continue;
      const nb::bytes copy = to_row(row, record, true);
      for (size_t i = 1; i < count; ++i) of_partition[to[i]].append(copy);
    }
    nb::dict found;
    for (uint32_t i = 0; i < partitions_; ++i)
      if (of_partition[i].size() > 0) found[nb::int_(i)] = of_partition[i];
    return found;
  }

  nb::list dead() const {
    nb::list found;
    for (const Dead& one : run_.dead)
      found.append(nb::make_tuple(one.position, static_cast<int>(one.reason), to_bytes(one.record), one.high_ms));
    return found;
  }

  nb::tuple counted() const {
    const Counted& c = run_.counted;
    return nb::make_tuple(c.received, c.learned, c.duplicate, c.late, run_.dead.size(), c.unanswered, c.waiting,
                          c.corrected);
  }

  nb::tuple clock() const { return nb::make_tuple(run_.high_ms(), run_.tick()); }

  nb::tuple changes() const {
    const JoinRun::Entries found = run_.changes();
    return nb::make_tuple(nb::make_tuple(to_list(found.shown_gone), to_list(found.shown, run_.pool)),
                          nb::make_tuple(to_list(found.index_gone), to_list(found.index)),
                          nb::make_tuple(to_list(found.waiting_gone), to_list(found.waiting)));
  }

 private:
  static JoinChoices choices_of(const nb::tuple& given) {
    const auto at = [&](size_t i) { return nb::cast<int64_t>(given[i]); };
    if (given.size() != 8) throw nb::value_error("choices: expected 8");
    return {at(0), at(1), at(2), at(3), at(4), static_cast<Policy>(at(5)), at(6) != 0, at(7) != 0};
  }

  static bool has_answer(std::string_view shown) {
    Fields fields(shown);
    fields.take(18);
    return fields.little<uint32_t>() != 0;
  }

  template <typename Use>
  void each_entry(const nb::list& entries, Use&& use) {
    keep(entries);
    for (const nb::handle entry : entries) {
      if (!PyTuple_Check(entry.ptr()) || PyTuple_GET_SIZE(entry.ptr()) != 2) throw nb::type_error("expected pairs");
      keep(entry);
      use(view_of(PyTuple_GET_ITEM(entry.ptr(), 0)), view_of(PyTuple_GET_ITEM(entry.ptr(), 1)));
    }
  }

  EventHead& told(size_t place, EventKind kind, const nb::str& impression, int64_t time_ms) {
    if (place >= run_.heads.size()) throw nb::index_error("place: there is no such record");
    keep(impression);
    EventHead& head = run_.heads[place] = EventHead{};
    head.kind = kind;
    head.impression = text_of(impression);
    head.time_ms = time_ms;
    return head;
  }

  void keep(nb::handle object) { kept_.push_back(nb::borrow(object)); }

  JoinRun run_;
  uint32_t partitions_;
  std::unique_ptr<HeadReader> reader_;
  std::vector<std::string_view> records_;
  std::vector<nb::object> kept_;
};

}  // namespace

NB_MODULE(_join, m) {
  nb::class_<Run>(m, "Run")
      .def(nb::init<const nb::tuple&, const nb::object&, uint32_t, int64_t, int64_t>(), "choices"_a,
           "owners"_a.none(), "partitions"_a, "high_ms"_a, "tick"_a)
      .def("read", &Run::read, "records"_a)
      .def("tell_impression", &Run::tell_impression, "place"_a, "impression"_a, "time_ms"_a, "resolves_ms"_a, "weight"_a,
           "partitions"_a)
      .def("tell_feedback", &Run::tell_feedback, "place"_a, "impression"_a, "time_ms"_a, "label"_a, "weight"_a,
           "name"_a)
      .def("tell_tick", &Run::tell_tick, "place"_a, "time_ms"_a)
      .def("span", &Run::span)
      .def("due", &Run::due, "closing"_a, "forgotten"_a, "waiting"_a)
      .def("names", &Run::names)
      .def("index", &Run::index, "entries"_a)
      .def("remembered", &Run::remembered, "shown"_a, "waiting"_a)
      .def("take", &Run::take, "first"_a)
      .def("rows", &Run::rows)
      .def("dead", &Run::dead)
      .def("counted", &Run::counted)
      .def("clock", &Run::clock)
      .def("changes", &Run::changes);
}
