// Drives the join of join_run.hpp without Python over random, partly damaged records, for sanitizers to watch: every
// record lies in memory of its own, so that a byte beyond it is one too many.
//
//   join_test RUNS  prints how many rows, dead letters and refusals of a damaged state there were, and the hash of an id
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "join_run.hpp"
#include "random.hpp"

using namespace nearline;

namespace {

using Table = std::map<std::string, std::string>;

struct State {
  Table shown, index, waiting;
};

// Bytes in memory that is exactly as large.
struct Exact {
  std::unique_ptr<char[]> data;
  size_t size;
  explicit Exact(const std::string& text) : data(new char[text.size()]), size(text.size()) {
    std::memcpy(data.get(), text.data(), size);
  }
  std::string_view view() const { return {data.get(), size}; }
};

struct Kept {
  std::vector<Exact> all;
  std::string_view keep(const std::string& text) {
    all.emplace_back(text);
    return all.back().view();
  }
};

void put_text(std::string& out, const std::string& text) {
  out.push_back(static_cast<char>(0xd9));
  out.push_back(static_cast<char>(text.size()));
  out += text;
}

void put_integer(std::string& out, int64_t value) {
  out.push_back(static_cast<char>(0xd3));
  put_big(out, value);
}

void put_number(std::string& out, double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  out.push_back(static_cast<char>(0xcb));
  put_big(out, static_cast<int64_t>(bits));
}

std::string some_record(Random& random, int64_t time_ms) {
  std::string out("\x01", 1);
  const std::string name = "i" + std::to_string(random.below(12));
  const int64_t kind = 1 + (random.chance(20) ? 2 : random.below(2));
  out.push_back(static_cast<char>(kind == 1 ? 0x94 : kind == 2 ? 0x96 : 0x92));
  out.push_back(static_cast<char>(kind));
  if (kind < 3) put_text(out, name);
  put_integer(out, std::max<int64_t>(0, time_ms + random.below(12) - 6));
  if (kind == 1) {
    out.push_back(static_cast<char>(0x81));
    put_text(out, "user");
    put_text(out, "u" + std::to_string(random.below(5)));
  } else if (kind == 2) {
    put_number(out, static_cast<double>(random.below(3)));
    put_number(out, 1.0);
    put_text(out, random.chance(2) ? "" : "f" + std::to_string(random.below(3)));
  }
  if (random.chance(8)) out.resize(static_cast<size_t>(random.below(static_cast<int64_t>(out.size()))));
  if (!out.empty() && random.chance(8)) out[static_cast<size_t>(random.below(static_cast<int64_t>(out.size())))] = static_cast<char>(random.bits());
  return out;
}

void damage(Random& random, Table& table) {
  if (table.empty()) return;
  auto entry = std::next(table.begin(), random.below(static_cast<int64_t>(table.size())));
  std::string& value = entry->second;
  if (value.empty()) return;
  const auto at = static_cast<size_t>(random.below(static_cast<int64_t>(value.size())));
  if (random.chance(2)) value.resize(at);
  else value[at] = static_cast<char>(random.bits());
}

template <typename Use>
void between(Kept& kept, const Table& table, int64_t begin_ms, int64_t end_ms, Use&& use) {
  std::string begin, end;
  put_big(begin, std::max<int64_t>(0, begin_ms));
  put_big(end, std::max<int64_t>(0, end_ms));
  for (auto entry = table.lower_bound(begin); entry != table.end() && entry->first < end; ++entry)
    use(kept.keep(entry->first), kept.keep(entry->second));
}

void recall(JoinRun& run, Kept& kept, const State& state, const JoinChoices& choices) {
  run.look_ahead();
  const int64_t begin = run.begin_ms(), end = run.end_ms();
  between(kept, state.shown, begin, end, [&](auto key, auto value) { run.add_close(key, value); });
  between(kept, state.shown, begin - choices.kept_ms, end - choices.kept_ms,
          [&](auto key, auto) { run.add_forget(key, false); });
  between(kept, state.waiting, begin, end, [&](auto key, auto value) { run.add_waiting(key, value); });
  std::vector<std::string> shown, waiting;
  for (const std::string_view name : run.names()) {
    const auto found = state.index.find(std::string(name));
    if (found == state.index.end()) continue;
    const std::string_view value = kept.keep(found->second);
    if (run.add_index(name, value, waiting)) shown.push_back(std::string(value).append(name));
  }
  for (const std::string& key : shown)
    if (const auto found = state.shown.find(key); found != state.shown.end())
      run.add_shown(kept.keep(key), kept.keep(found->second));
  for (const std::string& key : waiting)
    if (const auto found = state.waiting.find(key); found != state.waiting.end())
      run.add_orphan(kept.keep(key), kept.keep(found->second));
}

void save(const JoinRun& run, State& state) {
  const JoinRun::Entries entries = run.changes();
  for (const auto& key : entries.shown_gone) state.shown.erase(key);
  for (const auto& key : entries.index_gone) state.index.erase(key);
  for (const auto& key : entries.waiting_gone) state.waiting.erase(key);
  for (const Shown* shown : entries.shown) {
    std::string value;
    put_shown(value, *shown, run.pool);
    state.shown[shown_key(shown->close_ms, shown->id)] = value;
  }
  for (const auto& [key, value] : entries.index) state.index[key] = value;
  for (const auto& [key, value] : entries.waiting) state.waiting[key] = value;
}

struct Said {
  size_t rows = 0, dead = 0, refused = 0;
};

// A stream from its beginning: random choices, runs of random lengths; the state of some is damaged.
void stream(Random& random, Said& said) {
  const auto flag = [&] { return random.chance(2); };
  const JoinChoices choices{random.below(20), flag() ? 0 : 6, flag() ? 0 : 9, 20, flag() ? kNone : 7,
                            static_cast<Policy>(random.below(3)), flag(), flag()};
  State state;
  int64_t high_ms = -1, tick = -1, first = 1;
  const bool is_damaged = random.chance(4);
  for (int64_t runs = 1 + random.below(8); runs > 0; --runs) {
    Kept kept;
    JoinRun run(choices, high_ms, tick);
    HeadReader reader(Routes({{"user", 7}, {"item", 8}}, 3, random.chance(5)), run.pool);
    std::vector<std::string_view> records;
    for (int64_t left = random.below(30); left > 0; --left) {
      const int64_t time_ms = first + static_cast<int64_t>(records.size());
      records.push_back(kept.keep(some_record(random, time_ms)));
      run.heads.push_back(reader.read(records.back()));
    }
    if (is_damaged) {
      Table* tables[] = {&state.shown, &state.index, &state.waiting};
      damage(random, *tables[random.below(3)]);
    }
    try {
      recall(run, kept, state, choices);
      run.take(first, records);
    } catch (const Unreadable&) {
      ++said.refused;
      return;
    }
    save(run, state);
    said.rows += run.rows.size();
    said.dead += run.dead.size();
    high_ms = run.high_ms();
    tick = run.tick();
    first += static_cast<int64_t>(records.size());
  }
}

}  // namespace

int main(int argc, char** argv) {
  Random random{argc > 2 ? static_cast<uint64_t>(std::atoll(argv[2])) : 1};
  Said said;
  for (int64_t left = argc > 1 ? std::atoll(argv[1]) : 100; left > 0; --left) stream(random, said);
  std::printf("%zu rows, %zu dead letters, %zu refused\n", said.rows, said.dead, said.refused);
  std::printf("%zu\n", ById<int>().hash_function()("i1"));
}
