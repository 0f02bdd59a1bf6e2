// The way of pictures through the device, whose streams work in any order that they may.
#include "cuda/slot.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <stop_token>
#include <thread>
#include <vector>

#include "cuda/fake_runtime.h"
#include "elan/error.h"

namespace elan::cuda {
namespace {

constexpr int kScale = 2, kPadding = 5;

// A batch of pictures of 16 bits with padded rows, all different.
struct Batch {
  int width, height;
  std::vector<std::vector<std::uint16_t>> pixels;

  Batch(int w, int h, int count, std::uint16_t seed) : width(w), height(h) {
    for (int i = 0; i < count; ++i) {
      auto& picture = pixels.emplace_back(stride() * h);
      for (auto& v : picture) {
        seed = static_cast<std::uint16_t>(seed * 25173 + 13849);
        v = seed;
      }
    }
  }
  [[nodiscard]] std::size_t stride() const { return std::size_t(3) * width + kPadding; }
  template <typename View>
  [[nodiscard]] std::vector<View> views() {
    std::vector<View> found;
    for (auto& picture : pixels) {
      View view = view_of(picture.data(), width, height);
      view.row_bytes = 2 * stride();
      found.push_back(view);
    }
    return found;
  }
};

struct Streams {
  Stream upload, compute, download;
};

// On its way: each number becomes a square, inverted.
struct Pass {
  Batch in, out;
  Slot& slot;
  Streams& streams;

  Pass(Slot& s, Streams& on, int width, int height, int count, std::uint16_t seed)
      : in(width, height, count, seed),
        out(width * kScale, height * kScale, count, 0),
        slot(s),
        streams(on) {}

  void start(bool finite = true) {
    slot.fill(in.views<ConstImageView>());
    const auto views = in.views<ConstImageView>();
    const DevicePictures p =
        slot.upload(views, SampleType::u16, kScale, streams.upload.get(), streams.compute.get());
    test::enqueue(streams.compute.get(), [p, finite] {
      const auto* from = static_cast<const std::uint16_t*>(p.input);
      auto* to = static_cast<std::uint16_t*>(p.output);
      const int row = 3 * p.width * kScale;
      for (int i = 0; i < row * p.height * kScale * p.batch; ++i) {
        const int y = i / row / kScale, x = i % row / 3 / kScale;
        to[i] = static_cast<std::uint16_t>(~from[(y * p.width + x) * 3 + i % 3]);
      }
      if (!finite) *p.not_finite = 1;
    });
    slot.download(streams.compute.get(), streams.download.get());
  }
  bool collect(ThreadPool& pool) { return slot.collect(out.views<ImageView>(), 0, pool); }

  void expect_right() const {
    for (std::size_t i = 0; i < in.pixels.size(); ++i) {
      std::size_t wrong = 0;
      for (int y = 0; y < out.height; ++y) {
        for (int x = 0; x < 3 * out.width; ++x) {
          const auto from = static_cast<std::uint16_t>(
              ~in.pixels[i][y / kScale * in.stride() + x / 3 / kScale * 3 + x % 3]);
          wrong += out.pixels[i][y * out.stride() + x] == from ? 0 : 1;
        }
      }
      EXPECT_EQ(wrong, 0U) << "picture " << i;
    }
  }
};

class Slots : public testing::Test {
 protected:
  void TearDown() override { EXPECT_EQ(test::live(), 0U); }
  ThreadPool pool_{3};
};

// Two at once, and each slot again with pictures of another size: many bands, and one.
TEST_F(Slots, PicturesComeBackWhateverTheStreamsDoFirst) {
  for (unsigned seed = 0; seed < 40; ++seed) {
    test::start_device(seed);
    Streams streams;
    Slot first, second;
    for (const int height : {61, 130, 7}) {
      Pass a(first, streams, 300, height, 2, 1), b(second, streams, 41, height, 1, 2);
      a.start();
      b.start();
      EXPECT_TRUE(a.collect(pool_));
      EXPECT_TRUE(b.collect(pool_));
      a.expect_right();
      b.expect_right();
      EXPECT_FALSE(first.busy());
    }
    EXPECT_TRUE(test::idle());
  }
}

TEST_F(Slots, TellWhatIsNotFiniteOfOneBatchAlone) {
  for (unsigned seed = 0; seed < 10; ++seed) {
    test::start_device(seed);
    Streams streams;
    Slot slot;
    for (const bool finite : {true, false, true}) {
      Pass pass(slot, streams, 20, 10, 1, 3);
      pass.start(finite);
      EXPECT_EQ(pass.collect(pool_), finite);
    }
  }
}

// Wherever on the way: what is under way ends, memory can be given back, and the next batch is as
// if nothing had been.
TEST_F(Slots, GoOnAfterAFailure) {
  for (int nth = 0; nth < 6; ++nth) {
    test::start_device(1);
    Streams streams;
    Slot slot;
    Pass pass(slot, streams, 300, 90, 1, 4);
    nth < 3 ? test::fail_allocation(nth) : test::fail_copy(nth - 3);
    try {
      pass.start();
      ADD_FAILURE() << "no error";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), nth < 3 ? ErrorKind::memory : ErrorKind::device);
    }
    slot.settle(streams.upload.get(), streams.compute.get(), streams.download.get());
    EXPECT_FALSE(slot.busy());
    EXPECT_TRUE(test::idle());
    slot.release();
    EXPECT_EQ(slot.device_bytes(), 0U);
    pass.start();
    EXPECT_TRUE(pass.collect(pool_));
    pass.expect_right();
  }
}

TEST_F(Slots, OfAPoolWaitForTheOnesInUse) {
  test::start_device(1);
  SlotPool slots(2);
  Slot& first = slots.take({});
  Slot& second = slots.take({});
  EXPECT_NE(&first, &second);
  Slot* third = nullptr;
  std::jthread waits([&] { third = &slots.take({}); });
  slots.give(second);
  waits.join();
  EXPECT_EQ(third, &second);
  std::stop_source stop;
  stop.request_stop();
  try {
    slots.take(stop.get_token());
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::cancelled);
  }
  Streams streams;
  Pass pass(*third, streams, 8, 8, 1, 5);
  pass.start();
  EXPECT_TRUE(pass.collect(pool_));
  EXPECT_EQ(slots.device_bytes(), 8U * 8 * 6 * (1 + kScale * kScale));
  slots.give(*third);
  slots.give(first);
  slots.clear();
}

}  // namespace
}  // namespace elan::cuda
