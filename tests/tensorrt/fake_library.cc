// Looks like TensorRT 10.16.1 to the loader.
extern "C" {
// The names are TensorRT's.
// NOLINTBEGIN(readability-identifier-naming)
__attribute__((visibility("default"))) int getInferLibVersion() {
  return 101601;
}
__attribute__((visibility("default"))) void* createInferBuilder_INTERNAL(void*, int) {
  return nullptr;
}
__attribute__((visibility("default"))) void* createInferRuntime_INTERNAL(void*, int) {
  return nullptr;
}
// NOLINTEND(readability-identifier-naming)
}
