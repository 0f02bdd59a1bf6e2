#include <cuda_fp16.h>

#include <cmath>
#include <cstring>

#include "cuda/check/check.h"
#include "cuda/device.h"
#include "elan/cuda.h"

namespace elan::check {
namespace {

std::size_t size_of(CudaType type) {
  return type == CudaType::u8 ? 1 : type == CudaType::f32 ? 4 : 2;
}

// Values on 0..255 into samples, and back.
std::vector<std::byte> encode(const std::vector<float>& values, CudaType type, float white) {
  std::vector<std::byte> bytes(values.size() * size_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::byte* to = bytes.data() + i * size_of(type);
    if (type == CudaType::u8) {
      *to = static_cast<std::byte>(values[i]);
    } else if (type == CudaType::u16) {
      const auto v = static_cast<std::uint16_t>(values[i] * 257);
      std::memcpy(to, &v, sizeof v);
    } else if (type == CudaType::f16) {
      const __half v = __float2half_rn(values[i] * white / 255);
      std::memcpy(to, &v, sizeof v);
    } else {
      const float v = values[i] * white / 255;
      std::memcpy(to, &v, sizeof v);
    }
  }
  return bytes;
}

std::vector<float> decode(const std::vector<std::byte>& bytes, CudaType type, float white) {
  std::vector<float> values(bytes.size() / size_of(type));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* from = bytes.data() + i * size_of(type);
    if (type == CudaType::u8) {
      values[i] = static_cast<float>(std::to_integer<int>(*from));
    } else if (type == CudaType::u16) {
      std::uint16_t v = 0;
      std::memcpy(&v, from, sizeof v);
      values[i] = static_cast<float>(v) / 257;
    } else if (type == CudaType::f16) {
      __half v;
      std::memcpy(&v, from, sizeof v);
      values[i] = __half2float(v) * 255 / white;
    } else {
      std::memcpy(&values[i], from, sizeof(float));
      values[i] *= 255 / white;
    }
  }
  return values;
}

// [height][width][3] to [3][height][width], or back, of every picture of a batch.
std::vector<float> planar(const std::vector<float>& v, std::size_t pixels, bool back) {
  std::vector<float> out(v.size());
  for (std::size_t i = 0; i < v.size(); ++i) {
    const std::size_t image = i / (3 * pixels), k = i % (3 * pixels);
    const std::size_t flat = image * 3 * pixels + k % 3 * pixels + k / 3;
    back ? out[i] = v[flat] : out[flat] = v[i];
  }
  return out;
}

// The largest error that storing a value up to `most` in this type makes. (Of noise, networks make
// values far beyond 255.)
double rounding_of(CudaType type, double most) {
  return type == CudaType::u8    ? 0.5 + 1e-3
         : type == CudaType::u16 ? 2.5e-3
         : type == CudaType::f16 ? most * 0x1p-11
                                 : most * 0x1p-20;
}

}  // namespace

// Every type and layout, in and out, against the host's path; two pictures a batch, odd sizes.
void check_device_pictures(const Subject& s) {
  const int w = 19, h = 13, scale = s.model.scale(), batch = 2;
  const std::size_t pixels = static_cast<std::size_t>(w) * h;
  CudaEngine engine(s.model, {.device = 0, .precision = s.bar.precision});
  std::vector<float> values, expected;
  for (std::uint32_t i = 0; i < 2; ++i) {
    const Picture p = noise(w, h, 40 + i);
    values.insert(values.end(), p.rgb.begin(), p.rgb.end());
    const auto out = run(s.gpu, p.view(), scale);
    expected.insert(expected.end(), out.begin(), out.end());
  }
  const std::size_t big = pixels * scale * scale;
  cuda::Stream stream;
  double worst = 0, most = 255;
  for (const float v : expected) most = std::max(most, std::abs(double{v}));
  for (const CudaType type : {CudaType::u8, CudaType::u16, CudaType::f16, CudaType::f32}) {
    for (const CudaLayout layout : {CudaLayout::nhwc, CudaLayout::nchw}) {
      for (const bool as_input : {true, false}) {
        const bool flat = layout == CudaLayout::nchw;
        const float white = as_input || type == CudaType::f16 ? 255 : 1;
        ConstCudaPictures in{nullptr, w, h, batch};
        CudaPictures out{nullptr, w * scale, h * scale, batch, CudaType::f32};
        std::vector<std::byte> bytes = encode(values, CudaType::u8, 255);
        if (as_input) {
          in.type = type;
          in.layout = layout;
          in.white = white;
          bytes = encode(flat ? planar(values, pixels, false) : values, type, white);
        } else {
          out.type = type;
          out.layout = layout;
          out.white = white;
        }
        const cuda::DeviceBuffer from(bytes.size());
        const cuda::DeviceBuffer to(big * 3 * batch * size_of(out.type));
        ELAN_CUDA(cudaMemcpy(from.data(), bytes.data(), bytes.size(), cudaMemcpyHostToDevice));
        ELAN_CUDA(cudaDeviceSynchronize());  // our stream does not wait for the default one
        in.data = from.data();
        out.data = to.data();
        for (int i = 0; i < 2; ++i) engine.upscale(in, out, stream.get());
        stream.wait();
        std::vector<std::byte> result(to.size());
        ELAN_CUDA(cudaMemcpy(result.data(), to.data(), to.size(), cudaMemcpyDeviceToHost));
        std::vector<float> got = decode(result, out.type, out.white);
        if (out.layout == CudaLayout::nchw) got = planar(got, big, true);
        std::vector<float> wanted = expected;
        if (out.type == CudaType::u8 || out.type == CudaType::u16) {
          for (float& v : wanted) v = std::min(std::max(v, 0.F), 255.F);
        }
        const double allowed = as_input ? 0 : rounding_of(type, most);
        worst = std::max(worst, compare(got, wanted).largest - allowed);
      }
    }
  }
  bool refused = false;
  try {
    std::vector<std::uint8_t> host(pixels * 3);
    const cuda::DeviceBuffer to(big * 3);
    engine.upscale({host.data(), w, h}, {to.data(), w * scale, h * scale}, stream.get());
  } catch (const Error& error) {
    refused = error.kind() == ErrorKind::input;
  }
  s.note("pictures on the device", {worst, 0}, worst <= 0 && refused && engine.finite());
}

}  // namespace elan::check
