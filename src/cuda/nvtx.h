// Ranges for profilers (Nsight Systems and others), in the domain "elan-sr". Nothing happens unless
// a profiler is attached, or where the build had no NVTX headers.
#pragma once

#include <string>
#include <vector>
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#define ELAN_HAS_NVTX 1
#endif

namespace elan::cuda {

#ifdef ELAN_HAS_NVTX
// Null unless a profiler is attached.
inline nvtxDomainHandle_t nvtx_domain() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("elan-sr");
  return domain;
}
inline bool profiler_attached() {
  return nvtx_domain() != nullptr;
}
inline void push_range(const std::string& name) {
  nvtxEventAttributes_t event{};
  event.version = NVTX_VERSION;
  event.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  event.messageType = NVTX_MESSAGE_TYPE_ASCII;
  event.message.ascii = name.c_str();
  nvtxDomainRangePushEx(nvtx_domain(), &event);
}
inline void pop_range() {
  nvtxDomainRangePop(nvtx_domain());
}
#else
inline bool profiler_attached() {
  return false;
}
inline void push_range(const std::string&) {}
inline void pop_range() {}
#endif

// A range for the lifetime of the object.
class Range {
 public:
  explicit Range(const std::string& name) : on_(profiler_attached()) {
    if (on_) push_range(name);
  }
  ~Range() {
    if (on_) pop_range();
  }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;

 private:
  bool on_;
};

// One range after another, by the names of stages that are enqueued in this order.
class StageRanges {
 public:
  explicit StageRanges(const std::vector<std::string>& names) : names_(names) {
    push_range(names_[0]);
  }
  ~StageRanges() { pop_range(); }
  StageRanges(const StageRanges&) = delete;
  StageRanges& operator=(const StageRanges&) = delete;

  // A stage has been enqueued, the next one begins.
  void next() {
    pop_range();
    ++at_;
    push_range(at_ < names_.size() ? names_[at_] : "after the last stage");
  }

 private:
  const std::vector<std::string>& names_;
  std::size_t at_ = 0;
};

}  // namespace elan::cuda
