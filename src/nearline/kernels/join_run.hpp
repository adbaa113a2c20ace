// One run of events through the join: what comes of them, and what they change in what it remembers.
//
// The same as stream/reference_join.py, which defines the answer, without an object of Python's for an event. Texts and
// records stay where they lie in the records and in the state's entries: both must outlive the run.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <limits>
#include <queue>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "event_heads.hpp"
#include "join_state.hpp"
#include "name_table.hpp"

namespace nearline {

enum class Policy : uint8_t { kFirst, kLast, kMax };  // as in stream/join.py
enum class RowKind : uint8_t { kLearn, kTakeBack, kTick };
// As in REASONS of stream/join_rules.py; what cannot be read has the reason that its decoder gave.
enum Reason : int8_t { kUnreadable = -1, kNoImpression, kNoId, kNoFeedbackId, kNoNumber, kTooEarly };

constexpr size_t kMaxNameBytes = 256;

struct JoinChoices {
  int64_t window_ms, lateness_ms, correct_within_ms, kept_ms;
  int64_t tick_ms;  // kNone: never
  Policy policy;
  bool at_once;  // learn_at="feedback"
  bool zero;     // without_feedback="zero"
};

struct Row {
  RowKind kind;
  double label, weight;
  int64_t time_ms;
  const Shown* shown;  // null for a tick
};

struct Dead {
  int64_t position;
  Reason reason;
  std::string_view record;
  int64_t high_ms;
};

struct Counted {
  int64_t received = 0, learned = 0, duplicate = 0, late = 0, unanswered = 0, waiting = 0, corrected = 0;
};

// Ids come from whoever sends events, so they are hashed with a secret: see name_table.hpp.
template <typename T>
using ById = std::unordered_map<std::string_view, T, NameHash>;

class JoinRun {
 public:
  JoinRun(const JoinChoices& choices, int64_t high_ms, int64_t tick)
      : choices_(choices), high_ms_(high_ms), watermark_(high_ms - choices.lateness_ms), tick_(tick) {}

  std::vector<uint16_t> pool;  // partitions, side by side
  std::vector<EventHead> heads;

  // The time before the run and after it, once all heads are there.
  int64_t begin_ms() const { return watermark_; }
  int64_t end_ms() const { return end_ms_; }

  void look_ahead() {
    int64_t latest = high_ms_;
    held_.reserve(heads.size());
    for (const EventHead& head : heads) {
      if (head.kind == EventKind::kUnread) continue;
      latest = std::max(latest, head.time_ms);
      if (head.kind != EventKind::kTick) held_.try_emplace(head.impression);
    }
    end_ms_ = latest - choices_.lateness_ms;
  }

  // What falls due in the run, out of the state.

  void add_close(std::string_view key, std::string_view value) {
    Shown& shown = shown_.emplace_back(shown_of(key, value, pool));
    closing_.emplace(shown.id, &shown);
    due_.push_back(due_close(shown));
  }

  void add_forget(std::string_view key, bool has_answer) {
    Fields fields(key);
    const int64_t close_ms = fields.big();
    due_.push_back({close_ms + choices_.kept_ms, Turn::kForget, fields.rest(), {}, 0, nullptr, has_answer});
  }

  void add_waiting(std::string_view key, std::string_view value) {
    const WaitingKey parts(key);
    if (parts.turn == Turn::kLate) {
      Fields fields(value);
      due_.push_back(due_late(late_.emplace_back(Late{parts.position, parts.impression, answer_of(fields)})));
    } else {
      due_.push_back(due_orphan(orphan(parts, value)));
    }
    held_.try_emplace(parts.impression);
  }

  // The impressions that the run asks for, ascending; nothing is kept under what cannot be a name.
  std::vector<std::string_view> names() const {
    std::vector<std::string_view> found;
    found.reserve(held_.size());
    for (const auto& [name, held] : held_)
      if (is_name(name)) found.push_back(name);
    std::sort(found.begin(), found.end());
    return found;
  }

  // An entry of the index. Returns whether its impression is still to be given by `add_shown`, or else asks for the
  // feedback that is still to be given by `add_orphan`, in the order of the entry.
  bool add_index(std::string_view name, std::string_view value, std::vector<std::string>& orphans) {
    const auto found = held_.find(name);
    if (found == held_.end()) throw Unreadable("the join's state: an impression that was not asked for");
    Held& held = found->second;
    Fields fields(value);
    if (value.size() == 8) {
      const auto known = closing_.find(name);
      if (known != closing_.end()) held.shown = known->second;
      held.is_expected = known == closing_.end();
      return known == closing_.end();
    }
    while (!fields.at_end()) {
      const int64_t due_ms = fields.big(), position = fields.big();
      const auto known = orphan_at_.find(position);
      if (known == orphan_at_.end()) orphans.push_back(waiting_key(due_ms, Turn::kGiveUp, name, position));
      held.positions.push_back(position);
    }
    return false;
  }

  void add_shown(std::string_view key, std::string_view value) {
    Shown& shown = shown_.emplace_back(shown_of(key, value, pool));
    const auto held = held_.find(shown.id);
    if (held == held_.end()) throw Unreadable("the join's state: an impression that was not asked for");
    held->second.shown = &shown;
  }

  void add_orphan(std::string_view key, std::string_view value) { orphan(WaitingKey(key), value); }

  // The run itself.

  void take(int64_t first, const std::vector<std::string_view>& records) {
    link();
    std::sort(due_.begin(), due_.end());
    counted.received += static_cast<int64_t>(records.size());
    for (size_t i = 0; i < records.size(); ++i) {
      const EventHead& head = heads[i];
      const int64_t position = first + static_cast<int64_t>(i);
      if (head.kind == EventKind::kUnread) {
        refuse(position, kUnreadable, records[i]);
        continue;
      }
      if (head.time_ms > high_ms_) {
        high_ms_ = head.time_ms;
        watermark_ = high_ms_ - choices_.lateness_ms;
        if (next_due() < watermark_) do_what_is_due();
        if (choices_.tick_ms != kNone) say_time();
      }
      if (head.kind == EventKind::kImpression) take_impression(head, position, records[i]);
      else if (head.kind == EventKind::kFeedback) take_feedback(head, position, records[i]);
      else --counted.received;  // a tick is no event
    }
  }

  // What came of it.

  std::vector<Row> rows;
  std::vector<Dead> dead;
  Counted counted;
  int64_t high_ms() const { return high_ms_; }
  int64_t tick() const { return tick_; }

  // What the state is to keep and to drop, sorted by key: impressions as they are now, and entries of the other tables.
  struct Entries {
    std::vector<const Shown*> shown;
    std::vector<std::pair<std::string, std::string>> index, waiting;
    std::vector<std::string> shown_gone, index_gone, waiting_gone;
  };

  Entries changes() const {
    Entries entries;
    for (const auto& [name, close_ms] : forgotten_) {
      entries.index_gone.emplace_back(name);
      entries.shown_gone.push_back(shown_key(close_ms, name));
    }
    for (const Late& late : late_) {
      if (late.is_new == late.is_applied) continue;  // it has come and gone, or it waits as before
      std::string key = waiting_key(late.answer.time_ms, Turn::kLate, late.impression, late.position);
      if (late.is_applied) entries.waiting_gone.push_back(std::move(key));
      else put_feedback(entries, std::move(key), late.answer, {});
    }
    for (const Orphan& orphan : orphans_) {
      if (orphan.is_new == orphan.is_settled) continue;
      std::string key = waiting_key(orphan.due_ms, Turn::kGiveUp, orphan.impression, orphan.position);
      if (orphan.is_settled) entries.waiting_gone.push_back(std::move(key));
      else put_feedback(entries, std::move(key), orphan.answer, orphan.record);
    }
    for (const auto& [name, held] : held_) {
      if (!held.is_touched) continue;
      std::string value;
      for (const Orphan* orphan : held.orphans) {
        if (orphan->is_settled) continue;
        put_big(value, orphan->due_ms);
        put_big(value, orphan->position);
      }
      if (value.empty()) entries.index_gone.emplace_back(name);
      else entries.index.emplace_back(name, std::move(value));
    }
    for (const Shown& shown : shown_) {
      if (shown.is_gone || !(shown.is_new || shown.is_changed)) continue;
      if (shown.is_new) entries.index.emplace_back(shown.id, shown_key(shown.close_ms, {}));
      entries.shown.push_back(&shown);
    }
    std::sort(entries.shown.begin(), entries.shown.end(), [](const Shown* a, const Shown* b) {
      return std::tie(a->close_ms, a->id) < std::tie(b->close_ms, b->id);
    });
    for (auto* keys : {&entries.shown_gone, &entries.index_gone, &entries.waiting_gone})
      std::sort(keys->begin(), keys->end());
    for (auto* puts : {&entries.index, &entries.waiting}) std::sort(puts->begin(), puts->end());
    return entries;
  }

 private:
  struct Held {
    Shown* shown = nullptr;
    std::vector<Orphan*> orphans;    // those that wait for it while it has not come, and those given up
    std::vector<int64_t> positions;  // of those that the state has, until they are linked
    bool is_expected = false;        // the index has its impression
    bool is_touched = false;
  };

  struct Due {
    int64_t time_ms;
    Turn turn;
    std::string_view name;
    Answer answer;  // orders feedback of one impression
    int64_t position;
    void* thing;
    bool has_answer;

    auto all() const { return std::tuple_cat(std::tie(time_ms, turn, name), answer.all(), std::tie(position)); }
    bool operator<(const Due& other) const {
      if (time_ms != other.time_ms) return time_ms < other.time_ms;
      return all() < other.all();
    }
    bool operator>(const Due& other) const { return other < *this; }
  };

  static Due due_close(Shown& shown) { return {shown.close_ms, Turn::kClose, shown.id, {}, 0, &shown, false}; }
  static Due due_late(Late& late) {
    return {late.answer.time_ms, Turn::kLate, late.impression, late.answer, late.position, &late, false};
  }
  static Due due_orphan(Orphan& orphan) {
    return {orphan.due_ms, Turn::kGiveUp, orphan.impression, orphan.answer, orphan.position, &orphan, false};
  }

  static void put_feedback(Entries& entries, std::string key, const Answer& answer, std::string_view record) {
    std::string value;
    value.reserve(kAnswerBytes + answer.id.size() + record.size());
    put_answer(value, answer);
    value.append(record);
    entries.waiting.emplace_back(std::move(key), std::move(value));
  }

  Orphan& orphan(const WaitingKey& parts, std::string_view value) {
    const auto known = orphan_at_.find(parts.position);
    if (known != orphan_at_.end()) return *known->second;
    Fields fields(value);
    const Answer answer = answer_of(fields);
    Orphan& made =
        orphans_.emplace_back(Orphan{parts.due_ms, parts.position, parts.impression, answer, fields.rest()});
    orphan_at_.emplace(parts.position, &made);
    return made;
  }

  void link() {
    for (auto& [name, held] : held_) {
      if (held.is_expected && !held.shown) throw Unreadable("the join's state: an impression of the index is missing");
      for (const int64_t position : held.positions) {
        const auto known = orphan_at_.find(position);
        if (known == orphan_at_.end()) throw Unreadable("the join's state: feedback of the index is missing");
        held.orphans.push_back(known->second);
      }
    }
  }

  void refuse(int64_t position, Reason reason, std::string_view record) {
    dead.push_back({position, reason, record, high_ms_});
  }

  void say_time() {
    const int64_t ms = choices_.tick_ms;
    const int64_t tick = watermark_ >= 0 ? watermark_ / ms : -1;
    if (tick <= tick_) return;
    tick_ = tick;
    rows.push_back({RowKind::kTick, 0.0, 0.0, tick * ms, nullptr});
  }

  // What is due

  int64_t next_due() const {
    int64_t next = next_ < due_.size() ? due_[next_].time_ms : std::numeric_limits<int64_t>::max();
    return fresh_.empty() ? next : std::min(next, fresh_.top().time_ms);
  }

  // Does everything with a time before the watermark: what the state had and what this run added, in order.
  void do_what_is_due() {
    while (true) {
      Due item;
      const bool is_listed = next_ < due_.size() && due_[next_].time_ms < watermark_;
      if (!fresh_.empty() && fresh_.top().time_ms < watermark_ && !(is_listed && !(fresh_.top() < due_[next_]))) {
        item = fresh_.top();
        fresh_.pop();
      } else if (is_listed) {
        item = due_[next_++];
      } else {
        return;
      }
      switch (item.turn) {
        case Turn::kClose: close(*static_cast<Shown*>(item.thing)); break;
        case Turn::kLate: apply(*static_cast<Late*>(item.thing)); break;
        case Turn::kGiveUp: give_up(*static_cast<Orphan*>(item.thing)); break;
        case Turn::kForget: forget(item.name, item.time_ms - choices_.kept_ms, item.has_answer);
      }
    }
  }

  void apply(Late& late) {
    late.is_applied = true;
    Shown* shown = held_.find(late.impression)->second.shown;
    if (!shown) throw Unreadable("the join's state: feedback came late for an impression that is missing");
    --counted.waiting;
    correct(*shown, late.answer);
  }

  void give_up(Orphan& orphan) {
    if (orphan.is_settled) return;
    settle(orphan);  // what was waiting with it may be much, and is not looked through for each
    refuse(orphan.position, kNoImpression, orphan.record);
  }

  void close(const Shown& shown) {
    if (!shown.has_answer) {
      if (choices_.zero) {
        learn(shown, 0.0, shown.weight, shown.close_ms);
        counted.learned += 1;
        counted.waiting -= 1;
      } else if (choices_.correct_within_ms == 0) {
        counted.unanswered += 1;
        counted.waiting -= 1;
      }
    } else if (!choices_.at_once) {
      learn(shown, shown.answer.label, shown.weight * shown.answer.weight, shown.close_ms);
      counted.learned += 2;
      counted.waiting -= 2;
    }
  }

  void forget(std::string_view name, int64_t close_ms, bool has_answer) {
    const auto found = held_.find(name);
    Shown* shown = found == held_.end() ? nullptr : found->second.shown;
    if (shown && shown->close_ms == close_ms) {
      has_answer = shown->has_answer;
      shown->is_gone = true;
      found->second.shown = nullptr;
    }
    if (!shown || !shown->is_new) forgotten_.emplace_back(name, close_ms);
    if (choices_.correct_within_ms > 0 && !choices_.zero && !has_answer) {
      counted.unanswered += 1;
      counted.waiting -= 1;
    }
  }

  // Events

  static bool is_name(std::string_view name) { return !name.empty() && name.size() <= kMaxNameBytes; }

  void take_impression(const EventHead& head, int64_t position, std::string_view record) {
    Held& held = held_.find(head.impression)->second;
    if (held.shown) {
      ++counted.duplicate;
      return;
    }
    if (!is_name(head.impression)) return refuse(position, kNoId, record);
    const int64_t close_ms =
        head.resolves_ms == kNone ? head.time_ms + choices_.window_ms : std::max(head.resolves_ms, head.time_ms);
    if (close_ms < watermark_) {
      ++counted.late;
      return;
    }
    Shown& shown = shown_.emplace_back();
    shown.close_ms = close_ms;
    shown.time_ms = head.time_ms;
    shown.id = head.impression;
    shown.weight = head.weight;
    shown.partitions = head.partitions;
    shown.partition_count = head.partition_count;
    shown.record = record;
    shown.is_new = true;
    held.shown = &shown;
    ++counted.waiting;
    if (close_ms < end_ms_) {
      fresh_.push(due_close(shown));
      const int64_t forget_ms = close_ms + choices_.kept_ms;
      if (forget_ms < end_ms_) fresh_.push({forget_ms, Turn::kForget, shown.id, {}, 0, nullptr, false});
    }
    std::vector<Orphan*> before;
    before.swap(held.orphans);
    std::sort(before.begin(), before.end(), [](const Orphan* a, const Orphan* b) {
      return std::tuple_cat(a->answer.all(), std::tie(a->position)) <
             std::tuple_cat(b->answer.all(), std::tie(b->position));
    });
    for (Orphan* orphan : before) {
      if (orphan->is_settled) continue;
      settle(*orphan);
      answer(shown, orphan->answer, orphan->position, orphan->record);
    }
  }

  void take_feedback(const EventHead& head, int64_t position, std::string_view record) {
    // A number minus itself is 0 unless it is infinite or none.
    if (!(head.label - head.label == 0.0) || !(head.weight - head.weight == 0.0) || head.weight < 0.0)
      return refuse(position, kNoNumber, record);
    if (head.id.size() > kMaxNameBytes) return refuse(position, kNoFeedbackId, record);
    const Answer given{head.time_ms, head.id, head.label, head.weight};
    Held& held = held_.find(head.impression)->second;
    if (held.shown) answer(*held.shown, given, position, record);
    else if (is_name(head.impression)) wait_for_impression(held, head.impression, given, position, record);
    else refuse(position, kNoId, record);
  }

  void wait_for_impression(Held& held, std::string_view name, const Answer& given, int64_t position,
                           std::string_view record) {
    const int64_t due_ms = given.time_ms + choices_.window_ms;
    if (due_ms < watermark_) return refuse(position, kNoImpression, record);
    ++counted.waiting;
    Orphan& orphan = orphans_.emplace_back(Orphan{due_ms, position, name, given, record, true});
    held.is_touched = true;
    held.orphans.push_back(&orphan);
    if (due_ms < end_ms_) fresh_.push(due_orphan(orphan));
  }

  // A feedback no longer waits for its impression.
  void settle(Orphan& orphan) {
    --counted.waiting;
    orphan.is_settled = true;
    held_.find(orphan.impression)->second.is_touched = true;
  }

  // Takes feedback for an impression that is known.
  void answer(Shown& shown, const Answer& given, int64_t position, std::string_view record) {
    const int64_t time_ms = given.time_ms, close_ms = shown.close_ms;
    if (time_ms > close_ms + choices_.kept_ms) {
      // Whether the impression is still remembered here depends on the order of arrival: do not let it matter.
      refuse(position, kNoImpression, record);
    } else if (time_ms > close_ms) {
      answer_late(shown, given, position);
    } else if (close_ms < watermark_) {
      if (close_ms + choices_.correct_within_ms < watermark_) ++counted.late;
      else correct(shown, given);
    } else if (time_ms < shown.time_ms - choices_.window_ms) {
      refuse(position, kTooEarly, record);
    } else if (!shown.has_answer) {
      set_answer(shown, given);
      if (choices_.at_once) {
        learn(shown, given.label, shown.weight * given.weight, time_ms);
        counted.learned += 2;
        counted.waiting -= 1;
      } else {
        counted.waiting += 1;
      }
    } else if (choices_.at_once) {
      correct(shown, given);
    } else {
      if (wins(given, shown.answer)) set_answer(shown, given);
      ++counted.duplicate;
    }
  }

  // Feedback from after the close counts at its own time, so that the order of arrival does not matter.
  void answer_late(Shown& shown, const Answer& given, int64_t position) {
    const int64_t last_ms = shown.close_ms + choices_.correct_within_ms;
    if (given.time_ms > last_ms || last_ms < watermark_) {
      ++counted.late;
    } else if (given.time_ms < watermark_) {
      correct(shown, given);
    } else {
      Late& late = late_.emplace_back(Late{position, shown.id, given, true});
      ++counted.waiting;
      if (given.time_ms < end_ms_) fresh_.push(due_late(late));
    }
  }

  // Replaces what an impression was learned with, if the policy prefers this feedback and it says otherwise.
  void correct(Shown& shown, const Answer& given) {
    const bool had = shown.has_answer;
    const Answer old = shown.answer;
    if (had && (given.all() == old.all() || (!given.id.empty() && given.id == old.id))) {
      ++counted.duplicate;
      return;
    }
    if (had && !wins(given, old)) return overruled(shown);
    set_answer(shown, given);
    if (!had && !choices_.zero) {
      learn(shown, given.label, shown.weight * given.weight, given.time_ms);
      counted.learned += 2;
      counted.waiting -= 1;
      return;
    }
    const double label = had ? old.label : 0.0, times = had ? old.weight : 1.0;
    if (label == given.label && times == given.weight) return overruled(shown);
    rows.push_back({RowKind::kTakeBack, label, shown.weight * times, given.time_ms, &shown});
    learn(shown, given.label, shown.weight * given.weight, given.time_ms);
    counted.learned += 1;
    counted.corrected += 1;
  }

  void overruled(const Shown& shown) { ++(shown.close_ms < watermark_ ? counted.late : counted.duplicate); }

  static void set_answer(Shown& shown, const Answer& given) {
    shown.answer = given;
    shown.has_answer = shown.is_changed = true;
  }

  bool wins(const Answer& given, const Answer& old) const {
    if (choices_.policy == Policy::kMax && given.label != old.label) return given.label > old.label;
    return choices_.policy == Policy::kLast ? given.all() > old.all() : given.all() < old.all();
  }

  void learn(const Shown& shown, double label, double weight, int64_t time_ms) {
    rows.push_back({RowKind::kLearn, label, weight, time_ms, &shown});
  }

  JoinChoices choices_;
  int64_t high_ms_, watermark_, end_ms_ = 0, tick_;
  std::deque<Shown> shown_;
  std::deque<Orphan> orphans_;
  std::deque<Late> late_;
  ById<Held> held_;
  ById<Shown*> closing_;
  std::unordered_map<int64_t, Orphan*> orphan_at_;
  std::vector<Due> due_;
  size_t next_ = 0;
  std::priority_queue<Due, std::vector<Due>, std::greater<Due>> fresh_;
  std::vector<std::pair<std::string_view, int64_t>> forgotten_;
};

}  // namespace nearline
