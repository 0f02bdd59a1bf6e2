// Values kept for the keys used last, such as graphs for shapes: a bounded list, since what is
// asked for differs little from one call to the next.
#pragma once

#include <cstddef>
#include <list>
#include <optional>
#include <utility>

namespace elan::cuda {

template <typename Key, typename Value>
class RecentlyUsed {
 public:
  struct Entry {
    explicit Entry(Key k) : key(std::move(k)) {}
    Key key;
    std::size_t uses = 0;  // this one included
    std::optional<Value> value;
  };

  explicit RecentlyUsed(std::size_t most) : most_(most) {}

  // The entry of `key`, which now is the most recent; a new one has no value. `before_dropping` is
  // called when another entry that has a value is about to go for want of room.
  template <typename BeforeDropping>
  Entry& use(const Key& key, BeforeDropping before_dropping) {
    auto at = entries_.begin();
    while (at != entries_.end() && !(at->key == key)) ++at;
    if (at != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, at);
    } else {
      if (entries_.size() == most_) {
        if (entries_.back().value) before_dropping();
        entries_.pop_back();
      }
      entries_.emplace_front(key);
    }
    ++entries_.front().uses;
    return entries_.front();
  }

  void clear() { entries_.clear(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }

 private:
  std::size_t most_;
  std::list<Entry> entries_;  // most recently used first
};

}  // namespace elan::cuda
