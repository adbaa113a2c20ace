// Python's door to the jobs of problem.hpp: checks shapes, picks the instruction set, shares entities among
// threads. An entity is worked on by one thread, so the results do not depend on how many there are.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "buffers.hpp"
#include "entity.hpp"
#include "gathered.hpp"

namespace nb = nanobind;
using namespace nearline;

namespace {

// The message costs nothing while the condition holds: these checks run over every block of every call.
void require(bool condition, const char* what) {
  if (!condition) throw std::invalid_argument(what);
}

[[noreturn]] void reject(const std::string& what) { throw std::invalid_argument(what); }

template <class T>
struct Values {
  T* data = nullptr;   // null: None
  int64_t size = 0;
};

// An attribute by a name that is made a Python string once. `name` is a literal: its address stands for it.
nb::object attribute(nb::handle owner, const char* name) {
  static std::unordered_map<const char*, PyObject*> names;   // guarded by the interpreter's lock, never freed
  PyObject*& interned = names[name];
  if (!interned) interned = PyUnicode_InternFromString(name);
  PyObject* found = PyObject_GetAttr(owner.ptr(), interned);
  if (!found) throw nb::python_error();
  return nb::steal(found);
}

// A value that is None or a contiguous array of T. The Python object outlives the call, and so does its buffer.
template <class T>
Values<T> values_of(nb::handle value, const char* name) {
  if (value.is_none()) return {};
  PyArrayObject* array = array_behind<T>(value);
  if (!array) reject(std::string(name) + " must be a C-contiguous array of the documented dtype");
  const int64_t size = size_of(array);
  static std::remove_const_t<T> nothing{};   // so that only None is null
  return {size > 0 ? static_cast<T*>(PyArray_DATA(array)) : &nothing, size};
}

// An attribute of that kind.
template <class T>
Values<T> read_values(nb::handle owner, const char* name) {
  return values_of<T>(attribute(owner, name), name);
}

// The same where None will not do.
template <class T>
Values<T> need_values(nb::handle owner, const char* name) {
  const Values<T> values = read_values<T>(owner, name);
  if (!values.data) reject(std::string(name) + " is missing");
  return values;
}

void require_size(const char* name, int64_t size, int64_t expected) {
  if (size != expected)
    reject(std::string(name) + " has " + std::to_string(size) + " values where " + std::to_string(expected) +
           " are needed");
}

template <class T>
T* read(nb::handle owner, const char* name, int64_t expected) {
  const Values<T> values = read_values<T>(owner, name);
  if (values.data) require_size(name, values.size, expected);
  return values.data;
}

template <class T>
T* need(nb::handle owner, const char* name, int64_t expected) {
  const Values<T> values = need_values<T>(owner, name);
  require_size(name, values.size, expected);
  return values.data;
}

// An argument by itself: an array of that size, or None where it may be absent.
template <class T>
T* array_of(nb::handle value, const char* name, int64_t expected, bool may_be_absent = false) {
  const Values<T> values = values_of<T>(value, name);
  if (!values.data && !may_be_absent) reject(std::string(name) + " is missing");
  if (values.data) require_size(name, values.size, expected);
  return values.data;
}

void require_ascending(const int64_t* start, int64_t n, int64_t end, const char* name) {
  bool good = start[0] >= 0 && start[n] <= end;
  for (int64_t i = 0; i < n; ++i) good &= start[i] <= start[i + 1];
  if (!good) reject(std::string(name) + " must ascend from 0 or more to the number of values or less");
}

template <class T>
void require_below(const T* index, int64_t n, int64_t limit, const char* name) {
  T least = 0, most = 0;
  for (int64_t i = 0; i < n; ++i) {
    least = std::min(least, index[i]);
    most = std::max(most, index[i]);
  }
  if (n > 0 && (least < 0 || static_cast<int64_t>(most) >= limit)) reject(std::string(name) + " holds an index out of range");
}

void require_block_columns(const int32_t* column, int64_t n, int64_t limit) {
  int32_t wrong = 0;   // not a bool, for the sake of vector instructions
  for (int64_t j = 1; j < n; ++j) wrong |= column[j - 1] >= column[j];
  require(wrong == 0, "the columns of a block must ascend");
  require(n == 0 || (column[0] >= 0 && column[n - 1] < limit), "column holds an index out of range");
}

struct RowsArgument {
  Rows rows;
  int64_t count = 0;      // rows in the feature matrix
  int64_t entities = 0;
};

RowsArgument read_rows(nb::handle object) {
  RowsArgument out;
  Rows& rows = out.rows;
  out.count = nb::cast<int64_t>(attribute(object, "count"));
  rows.columns = nb::cast<int64_t>(attribute(object, "columns"));
  require(out.count >= 0 && out.count < (int64_t{1} << 32) && rows.columns >= 0 && rows.columns < (int64_t{1} << 31),
          "rows: impossible shape");
  const auto row_start = need_values<const int64_t>(object, "row_start");
  require(row_start.size > 0, "row_start must have one value more than there are entities");
  out.entities = row_start.size - 1;
  rows.row_start = row_start.data;
  const auto row = read_values<const int64_t>(object, "row");
  rows.row = row.data;
  const int64_t grouped = rows.row ? row.size : out.count;
  require_ascending(rows.row_start, out.entities, grouped, "row_start");
  if (rows.row) require_below(rows.row, grouped, out.count, "row");
  rows.indptr = read<const int64_t>(object, "indptr", out.count + 1);
  if (rows.indptr) {
    const auto indices = need_values<const int32_t>(object, "indices");
    require_ascending(rows.indptr, out.count, indices.size, "indptr");
    rows.indices = indices.data;
    rows.values = need<const double>(object, "values", indices.size);
    require_below(rows.indices, indices.size, rows.columns, "indices");
  }
  rows.dense = read<const double>(object, "dense", out.count * rows.columns);
  rows.dense32 = read<const float>(object, "dense32", out.count * rows.columns);
  require((rows.dense != nullptr) + (rows.dense32 != nullptr) + (rows.indptr != nullptr) == 1,
          "rows must be dense, dense in single precision, or sparse");
  return out;
}

// T is const double, or double where the job writes to the blocks.
template <class T>
Blocks read_blocks(nb::handle object, int64_t columns) {
  Blocks blocks;
  blocks.shared = nb::cast<bool>(attribute(object, "shared"));
  blocks.full = nb::cast<bool>(attribute(object, "full"));
  const auto start = need_values<const int64_t>(object, "start");
  const auto mean = need_values<T>(object, "mean"), precision = need_values<T>(object, "precision");
  require(start.size > (blocks.shared ? 1 : 0), "start must have one value more than there are blocks");
  blocks.start = start.data;
  blocks.entities = start.size - 1;
  blocks.mean = const_cast<double*>(mean.data);
  blocks.precision = const_cast<double*>(precision.data);
  require_ascending(blocks.start, blocks.entities, mean.size, "start");
  blocks.column = read<const int32_t>(object, "column", blocks.start[blocks.entities]);
  if (blocks.full) {
    blocks.packed_start = need<const int64_t>(object, "packed_start", blocks.entities + 1);
    require_ascending(blocks.packed_start, blocks.entities, precision.size, "packed_start");
  } else {
    require(precision.size == mean.size, "a diagonal precision must be as long as the mean");
  }
  for (int64_t e = 0; e < blocks.entities; ++e) {
    const int64_t d = blocks.start[e + 1] - blocks.start[e];
    require(!blocks.full || blocks.packed_start[e + 1] - blocks.packed_start[e] == d * (d + 1) / 2,
            "packed_start does not fit start");
    require(blocks.column || d <= columns, "a block has more columns than the rows");
    if (blocks.column) require_block_columns(blocks.column + blocks.start[e], d, columns);
  }
  return blocks;
}

// A prior fits when it is laid out like the posterior, or shared: full over exactly the posterior's columns, or
// diagonal over all columns.
void require_prior_fits(const Blocks& prior, const Blocks& posterior, int64_t columns) {
  require(posterior.full || !prior.full, "a full prior needs a full posterior");
  require(!posterior.shared, "the posterior cannot be shared");
  if (prior.shared) {
    require(prior.start[1] - prior.start[0] == columns, "a shared prior needs one value a column");
    for (int64_t e = 0; prior.full && e < posterior.entities; ++e)
      require(posterior.start[e + 1] - posterior.start[e] == columns, "a shared full prior needs whole blocks");
    return;
  }
  require(prior.entities == posterior.entities, "prior and posterior differ in entities");
  for (int64_t e = 0; e <= posterior.entities; ++e)
    require(prior.start[e] == posterior.start[e], "prior and posterior differ in blocks");
}

void require_dense_blocks(const Rows& rows, const Blocks& blocks) {
  if (rows.indptr) return;
  require(blocks.column == nullptr, "dense rows need blocks without a column list");
  for (int64_t e = 0; e < blocks.entities; ++e)
    require(blocks.start[e + 1] - blocks.start[e] == rows.columns, "dense rows need whole blocks");
}

// The factors of full precisions, if there are any.
const double* read_factor(nb::handle factor, const Blocks& blocks) {
  if (factor.is_none()) return nullptr;
  require(blocks.full, "a diagonal precision has no factor");
  return array_of<const double>(factor, "factor", blocks.packed_start[blocks.entities]);
}

std::vector<std::string> available_instruction_sets() {
  std::vector<std::string> sets{"portable"};
#ifdef NEARLINE_X86
  __builtin_cpu_init();
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512cd");
  if (v3) sets.push_back("v3");
  if (v4) sets.push_back("v4");
#endif
  return sets;
}

std::atomic<int> chosen{-1};

int chosen_set() {
  int set = chosen.load();
  if (set < 0) {
    set = static_cast<int>(available_instruction_sets().size()) - 1;
    chosen.store(set);
  }
  return set;
}

void use_instruction_set(const std::string& name) {
  const auto sets = available_instruction_sets();
  const auto found = std::find(sets.begin(), sets.end(), name);
  if (found == sets.end()) reject("this machine has no instruction set " + name);
  chosen.store(static_cast<int>(found - sets.begin()));
}

// Calls the job compiled for the chosen instruction set.
#ifdef NEARLINE_X86
#define NEARLINE_DISPATCH(job, ...)                     \
  switch (chosen_set()) {                               \
    case 2: nearline::v4::job(__VA_ARGS__); break;      \
    case 1: nearline::v3::job(__VA_ARGS__); break;      \
    default: nearline::portable::job(__VA_ARGS__);      \
  }
#else
#define NEARLINE_DISPATCH(job, ...) nearline::portable::job(__VA_ARGS__)
#endif

// Runs work(part) for every part, on up to `threads` threads (fewer if the system has no more), and rethrows the
// first exception.
template <class Work>
void share(int64_t parts, int threads, const Work& work) {
  if (threads <= 1 || parts <= 1) {
    for (int64_t part = 0; part < parts; ++part) work(part);
    return;
  }
  std::atomic<int64_t> next{0};
  std::exception_ptr failure;
  std::mutex guard;
  const auto take = [&] {
    try {
      for (int64_t part = next++; part < parts; part = next++) work(part);
    } catch (...) {
      const std::lock_guard<std::mutex> lock(guard);
      if (!failure) failure = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  try {
    others.reserve(static_cast<size_t>(std::clamp<int64_t>(threads, 1, parts + 1)));
    for (int64_t i = 1; i < std::min<int64_t>(threads, parts); ++i) others.emplace_back(take);
  } catch (const std::exception&) {   // make do with those there are
  }
  take();
  for (auto& thread : others) thread.join();
  if (failure) std::rethrow_exception(failure);
}

// Entities in parts of a few dozen: enough to balance, few enough not to matter.
template <class Work>
void share_entities(int64_t entities, int threads, const Work& work) {
  const int64_t part = threads > 1 ? std::clamp<int64_t>(entities / (int64_t{8} * threads), 1, 256) : std::max<int64_t>(entities, 1);
  share((entities + part - 1) / part, threads, [&](int64_t p) { work(p * part, std::min(entities, (p + 1) * part)); });
}

void update(nb::handle rows, nb::handle data, nb::handle prior, nb::handle posterior, nb::handle report, int outcome,
            int method, double tolerance, int max_steps, int threads) {
  const RowsArgument argument = read_rows(rows);
  UpdateJob job;
  job.rows = argument.rows;
  job.y = need<const double>(data, "y", argument.count);
  job.weight = read<const double>(data, "weight", argument.count);
  job.offset = read<const double>(data, "offset", argument.count);
  job.prior = read_blocks<const double>(prior, job.rows.columns);
  job.posterior = read_blocks<double>(posterior, job.rows.columns);
  require(job.posterior.entities == argument.entities, "rows and blocks differ in entities");
  require_prior_fits(job.prior, job.posterior, job.rows.columns);
  require_dense_blocks(job.rows, job.posterior);
  job.start = read<const double>(report, "start", job.posterior.start[job.posterior.entities]);
  require(outcome >= 0 && outcome <= 2 && method >= 0 && method <= 3, "unknown outcome or method");
  job.status = need<int8_t>(report, "status", argument.entities);
  job.steps = need<int32_t>(report, "steps", argument.entities);
  job.row_learned = need<uint8_t>(report, "row_learned", argument.count);
  job.outcome = outcome;
  job.method = method;
  job.tolerance = tolerance;
  job.max_steps = max_steps;
  const nb::gil_scoped_release release;
  share_entities(argument.entities, threads, [&](int64_t from, int64_t to) { NEARLINE_DISPATCH(run_update, job, from, to); });
}

void learn(nb::handle rows, nb::handle data, nb::handle prior, nb::handle before, nb::handle after, nb::handle report,
           int outcome, double tolerance, int max_steps, int threads) {
  const RowsArgument argument = read_rows(rows);
  const int64_t batches = argument.entities, columns = argument.rows.columns;
  LearnJob job;
  job.rows = argument.rows;
  job.y = need<const double>(data, "y", argument.count);
  job.weight = read<const double>(data, "weight", argument.count);
  job.offset = read<const double>(data, "offset", argument.count);
  job.prior = read_blocks<const double>(prior, columns);
  job.before = read_blocks<const double>(before, columns);
  job.after = read_blocks<double>(after, columns);
  const int64_t entities = job.after.entities;
  require(job.prior.shared && job.prior.start[1] == columns, "the population prior must be shared, one value a column");
  require(job.after.full || !job.prior.full, "a full prior needs full evidence");
  require(!job.before.shared && !job.after.shared && job.before.entities == entities &&
              job.before.full == job.after.full,
          "evidence before and after differ in entities or form");
  for (int64_t e = 0; !job.rows.indptr && e < entities; ++e)
    require(job.after.start[e + 1] - job.after.start[e] == columns, "dense rows need whole blocks");
  job.batch_start = need<const int64_t>(report, "batch_start", entities + 1);
  require_ascending(job.batch_start, entities, batches, "batch_start");
  job.keep = read<const double>(report, "keep", batches);
  job.status = need<int8_t>(report, "status", batches);
  job.steps = need<int32_t>(report, "steps", batches);
  job.row_learned = need<uint8_t>(report, "row_learned", argument.count);
  require(outcome >= 0 && outcome <= 2, "unknown outcome");
  job.outcome = outcome;
  job.tolerance = tolerance;
  job.max_steps = max_steps;
  const nb::gil_scoped_release release;
  share_entities(entities, threads, [&](int64_t from, int64_t to) { NEARLINE_DISPATCH(run_learn, job, from, to); });
}

// The first entity whose job failed, -1 if none did.
int64_t first_failed(const std::vector<int8_t>& status) {
  const auto found = std::find_if(status.begin(), status.end(), [](int8_t one) { return one != kLearned; });
  return found == status.end() ? -1 : found - status.begin();
}

int64_t score(nb::handle rows, nb::handle beliefs, nb::handle mean, nb::handle variance, nb::handle factor, int threads) {
  const RowsArgument argument = read_rows(rows);
  ScoreJob job;
  job.rows = argument.rows;
  job.beliefs = read_blocks<const double>(beliefs, job.rows.columns);
  require(job.beliefs.shared || job.beliefs.entities == argument.entities, "rows and blocks differ in entities");
  require_dense_blocks(job.rows, job.beliefs);
  job.mean = array_of<double>(mean, "mean", argument.count);
  job.variance = array_of<double>(variance, "variance", argument.count, true);
  job.factor = read_factor(factor, job.beliefs);
  std::vector<int8_t> status(static_cast<size_t>(argument.entities));
  job.status = status.data();
  const nb::gil_scoped_release release;
  if (job.rows.row_start[argument.entities] - job.rows.row_start[0] < argument.count) {   // some are of no entity
    std::fill(job.mean, job.mean + argument.count, 0.0);
    if (job.variance) std::fill(job.variance, job.variance + argument.count, 0.0);
  }
  share_entities(argument.entities, threads, [&](int64_t from, int64_t to) { NEARLINE_DISPATCH(run_score, job, from, to); });
  return first_failed(status);
}

int64_t draw(nb::handle rows, nb::handle beliefs, nb::handle keys, nb::handle scores, nb::handle factor, uint64_t request,
             uint64_t first, int64_t draws) {
  const RowsArgument argument = read_rows(rows);
  DrawJob job;
  job.rows = argument.rows;
  job.count = argument.count;
  job.beliefs = read_blocks<const double>(beliefs, job.rows.columns);
  require(!job.beliefs.shared && job.beliefs.entities == argument.entities, "rows and blocks differ in entities");
  require_dense_blocks(job.rows, job.beliefs);
  job.factor = read_factor(factor, job.beliefs);
  job.key = array_of<const uint64_t>(keys, "keys", argument.entities);
  job.request = request;
  job.first = first;
  require(draws >= 0, "draws must not be negative");
  job.draws = draws;
  job.scores = array_of<double>(scores, "scores", draws * job.count);
  std::vector<int8_t> status(static_cast<size_t>(argument.entities));
  job.status = status.data();
  const nb::gil_scoped_release release;
  NEARLINE_DISPATCH(run_draw, job, 0, argument.entities);
  return first_failed(status);
}

int64_t factor(nb::handle beliefs, nb::handle factor, int64_t columns) {
  require(columns >= 0 && columns < (int64_t{1} << 31), "beliefs: impossible number of columns");
  FactorJob job;
  job.beliefs = read_blocks<const double>(beliefs, columns);
  require(job.beliefs.full, "a diagonal precision has no factor");
  job.factor = array_of<double>(factor, "factor", job.beliefs.packed_start[job.beliefs.entities]);
  std::vector<int8_t> status(static_cast<size_t>(job.beliefs.entities));
  job.status = status.data();
  const nb::gil_scoped_release release;
  NEARLINE_DISPATCH(run_factor, job, 0, job.beliefs.entities);
  return first_failed(status);
}

void moments(nb::handle rows, nb::handle data, nb::handle beliefs, nb::handle out, int outcome, int threads) {
  const RowsArgument argument = read_rows(rows);
  MomentsJob job;
  job.rows = argument.rows;
  const int64_t columns = job.rows.columns;
  job.y = need<const double>(data, "y", argument.count);
  job.weight = read<const double>(data, "weight", argument.count);
  job.offset = read<const double>(data, "offset", argument.count);
  job.beliefs = read_blocks<const double>(beliefs, columns);
  require(!job.beliefs.shared && job.beliefs.entities == argument.entities, "rows and blocks differ in entities");
  require_dense_blocks(job.rows, job.beliefs);
  require(outcome >= 0 && outcome <= 2, "unknown outcome");
  job.outcome = outcome;
  const int64_t square = job.beliefs.full ? columns * columns : columns;
  job.center = need<const double>(out, "center", columns);
  job.other_variance = read<const double>(out, "other_variance", argument.count);
  job.leverage = need<double>(out, "leverage", argument.count);
  job.pull = need<double>(out, "pull", argument.count);
  job.covariance_sum = need<double>(out, "covariance_sum", kChunks * square);
  job.square_sum = need<double>(out, "square_sum", kChunks * square);
  job.mean_sum = need<double>(out, "mean_sum", kChunks * columns);
  job.log_determinant = need<double>(out, "log_determinant", argument.entities);
  job.status = need<int8_t>(out, "status", argument.entities);
  const nb::gil_scoped_release release;
  share(kChunks, threads, [&](int64_t chunk) {
    const int64_t from = argument.entities * chunk / kChunks, to = argument.entities * (chunk + 1) / kChunks;
    NEARLINE_DISPATCH(run_moments, job, chunk, from, to);
  });
}

void complete(nb::handle evidence, nb::handle prior, nb::handle belief, nb::handle out, int64_t columns, bool reverse,
              int threads) {
  CompleteJob job;
  job.columns = columns;
  require(columns >= 0 && columns < (int64_t{1} << 31), "columns: impossible number");
  job.evidence = reverse ? read_blocks<double>(evidence, columns) : read_blocks<const double>(evidence, columns);
  job.prior = read_blocks<const double>(prior, columns);
  job.belief = reverse ? read_blocks<const double>(belief, columns) : read_blocks<double>(belief, columns);
  const int64_t entities = job.belief.entities;
  require(job.prior.shared, "the population prior must be shared");
  require_prior_fits(job.prior, job.belief, columns);
  require(!job.evidence.shared && job.evidence.entities == entities && job.evidence.full == job.belief.full,
          "evidence and beliefs differ in entities or form");
  job.keep = read<const double>(out, "keep", entities);
  job.status = need<int8_t>(out, "status", entities);
  const nb::gil_scoped_release release;
  share_entities(entities, threads, [&](int64_t from, int64_t to) {
    if (reverse) {
      NEARLINE_DISPATCH(run_extract, job, from, to);
    } else {
      NEARLINE_DISPATCH(run_complete, job, from, to);
    }
  });
}

template <class T>
nb::object own(std::vector<T>&& values) {
  auto* kept = new std::vector<T>(std::move(values));
  nb::capsule owner(kept, [](void* p) noexcept { delete static_cast<std::vector<T>*>(p); });
  return nb::cast(nb::ndarray<nb::numpy, T, nb::ndim<1>>(kept->data(), {kept->size()}, owner));
}

// The columns each entity's rows touch, and those it has already if `known` is given, ascending.
nb::tuple active_columns(nb::handle rows, nb::handle known) {
  const RowsArgument argument = read_rows(rows);
  const Rows& r = argument.rows;
  require(r.indptr != nullptr, "active columns are of sparse rows");
  Blocks blocks;
  if (!known.is_none()) {
    blocks = read_blocks<const double>(known, r.columns);
    require(blocks.entities == argument.entities && blocks.column, "known blocks must list the columns of each entity");
  }
  std::vector<int32_t> column;
  std::vector<int64_t> start{0};
  {
    const nb::gil_scoped_release release;
    std::vector<int64_t> seen(static_cast<size_t>(r.columns), -1);
    const auto touch = [&](int64_t e, int32_t c) {
      if (seen[static_cast<size_t>(c)] == e) return;
      seen[static_cast<size_t>(c)] = e;
      column.push_back(c);
    };
    for (int64_t e = 0; e < argument.entities; ++e) {
      if (blocks.column)
        for (int64_t j = blocks.start[e]; j < blocks.start[e + 1]; ++j) touch(e, blocks.column[j]);
      for (int64_t i = r.row_start[e]; i < r.row_start[e + 1]; ++i) {
        const int64_t row = r.row ? r.row[i] : i;
        for (int64_t k = r.indptr[row]; k < r.indptr[row + 1]; ++k) touch(e, r.indices[k]);
      }
      std::sort(column.begin() + start.back(), column.end());
      start.push_back(static_cast<int64_t>(column.size()));
    }
  }
  return nb::make_tuple(own(std::move(column)), own(std::move(start)));
}

// An IntEnum is an int to Python but, at the cost of a second look at all arguments, not to nanobind.
int as_int(nb::handle value) {
  const long found = PyLong_AsLong(value.ptr());
  if (found == -1 && PyErr_Occurred()) throw nb::python_error();
  return static_cast<int>(found);
}

// The float64 values of an array, for as long as this lives. Contiguous ones are borrowed through the buffer protocol:
// nb::ndarray asks the array by way of Python, and half a dozen such questions cost more than a small update.
class Doubles {
 public:
  enum Access { kRead, kWrite };

  // Real numbers to read that are of another type, or not in order, are copied. Of None there are none.
  Doubles(nb::handle array, Access access) {
    if (array.is_none() || borrow(array, access)) return;
    const bool is_real = is_array(array) && PyTypeNum_ISNUMBER(type_of(array)) && !PyTypeNum_ISCOMPLEX(type_of(array));
    const bool is_bool = is_array(array) && PyTypeNum_ISBOOL(type_of(array));
    if (access == kRead && (is_real || is_bool)) copy_ = array.attr("astype")("float64", "C");
    require(copy_.is_valid() && borrow(copy_, access),
            "expected arrays of real numbers to read, and writable contiguous float64 arrays to write");
  }

  bool is_absent() const { return array_ == nullptr; }
  double* data() const { return array_ ? static_cast<double*>(PyArray_DATA(array_)) : nullptr; }
  bool has_shape(std::initializer_list<int64_t> shape) const {
    return array_ && PyArray_NDIM(array_) == static_cast<int>(shape.size()) &&
           std::equal(shape.begin(), shape.end(), PyArray_DIMS(array_));
  }
  // The length of a vector; -1 if it is none.
  int64_t length() const { return array_ && PyArray_NDIM(array_) == 1 ? PyArray_DIMS(array_)[0] : -1; }

 private:
  static int type_of(nb::handle array) { return PyArray_TYPE(reinterpret_cast<PyArrayObject*>(array.ptr())); }
  bool borrow(nb::handle array, Access access) {
    array_ = access == kRead ? array_behind<const double>(array) : array_behind<double>(array);
    return array_ != nullptr;
  }
  PyArrayObject* array_ = nullptr;   // outlives the call, or is the copy
  nb::object copy_;
};

// One belief over dense rows, without the cost of describing blocks; returns the status. The precisions are squares,
// or vectors if they are diagonal. The arrays to write come from the caller, who makes them at less cost.
int update_one(nb::handle mean_array, nb::handle precision_array, nb::handle x_array, nb::handle y_array,
               nb::handle weight_array, nb::handle offset_array, nb::handle new_mean_array,
               nb::handle new_precision_array, nb::handle outcome, nb::handle method, double tolerance, int max_steps) {
  const Doubles mean(mean_array, Doubles::kRead), precision(precision_array, Doubles::kRead);
  const Doubles x(x_array, Doubles::kRead), y(y_array, Doubles::kRead);
  const Doubles weight(weight_array, Doubles::kRead), offset(offset_array, Doubles::kRead);
  const Doubles new_mean(new_mean_array, Doubles::kWrite), new_precision(new_precision_array, Doubles::kWrite);
  const int64_t d = mean.length(), n = y.length();
  require(d >= 0 && n >= 0 && x.has_shape({n, d}), "expected a mean [d], features [rows, d] and y [rows]");
  const bool full = precision.has_shape({d, d});
  require(full || precision.has_shape({d}), "precision must be [d, d] or [d]");
  require((weight.is_absent() || weight.has_shape({n})) && (offset.is_absent() || offset.has_shape({n})),
          "weight and offset must have one value a row");
  require(new_mean.has_shape({d}) && (full ? new_precision.has_shape({d, d}) : new_precision.has_shape({d})),
          "the arrays to write must be shaped like the belief");
  const int64_t row_start[2] = {0, n}, start[2] = {0, d}, packed_start[1] = {0};
  static thread_local std::vector<uint8_t> learned;
  if (static_cast<int64_t>(learned.size()) < n) learned.resize(static_cast<size_t>(n));
  UpdateJob job;
  job.rows.dense = x.data();
  job.rows.columns = d;
  job.rows.row_start = row_start;
  job.y = y.data();
  job.weight = weight.data();
  job.offset = offset.data();
  job.prior = Blocks{1, nullptr, start, packed_start, mean.data(), precision.data(), full, false, false};
  job.posterior = Blocks{1, nullptr, start, packed_start, new_mean.data(), new_precision.data(), full, false, false};
  job.outcome = as_int(outcome);
  job.method = as_int(method);
  require(job.outcome >= 0 && job.outcome <= 2 && job.method >= 0 && job.method <= 3, "unknown outcome or method");
  job.tolerance = tolerance;
  job.max_steps = max_steps;
  int8_t status = 0;
  int32_t steps = 0;
  job.status = &status;
  job.steps = &steps;
  job.row_learned = learned.data();
  NEARLINE_DISPATCH(run_update, job, 0, 1);
  return status;
}

}  // namespace

void nearline::run_chosen_score(const ScoreJob& job, int64_t from, int64_t to) { NEARLINE_DISPATCH(run_score, job, from, to); }

NB_MODULE(_posterior, module) {
  // At exit the interpreter may drop a module before those who still refer to its functions: no leak, though nanobind
  // would report one to the user.
  nb::set_leak_warnings(false);
  module.attr("CHUNKS") = kChunks;
  module.def("update", &update);
  module.def("update_one", &update_one, nb::arg("mean"), nb::arg("precision"), nb::arg("x"), nb::arg("y"),
             nb::arg("weight").none(), nb::arg("offset").none(), nb::arg("new_mean"), nb::arg("new_precision"),
             nb::arg("outcome"), nb::arg("method"), nb::arg("tolerance"),
             nb::arg("max_steps"));
  module.def("learn", &learn);
  module.def("score", &score, nb::arg("rows"), nb::arg("beliefs"), nb::arg("mean"), nb::arg("variance").none(),
             nb::arg("factor").none(), nb::arg("threads"));
  module.def("draw", &draw, nb::arg("rows"), nb::arg("beliefs"), nb::arg("keys"), nb::arg("scores"),
             nb::arg("factor").none(), nb::arg("request"), nb::arg("first"), nb::arg("draws"));
  module.def("factor", &factor);
  module.def("moments", &moments);
  module.def("complete", &complete);
  module.def("active_columns", &active_columns, nb::arg("rows"), nb::arg("known").none());
  module.def("available_instruction_sets", &available_instruction_sets);
  module.def("instruction_set", [] { return available_instruction_sets()[static_cast<size_t>(chosen_set())]; });
  module.def("use_instruction_set", &use_instruction_set);
  define_gathered(module);
}
