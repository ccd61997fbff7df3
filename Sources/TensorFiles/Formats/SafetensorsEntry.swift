/// One tensor in the header of a safetensors file.
struct SafetensorsEntry {
  let name: String
  /// The element type as spelt in the file; it may be one that this module does not read.
  let dtype: String
  let shape: [Int]
  /// The first byte and the one after the last, counted from the end of the header.
  let begin: Int
  let end: Int

  /// Reads `{"dtype": …, "shape": […], "data_offsets": [begin, end]}` and checks the three against each other.
  init(named name: String, from scanner: inout ByteScanner) throws(TensorFileFault) {
    var dtype: String?
    var shape: [Int]?
    var offsets: [Int]?
    try scanner.expectObject { (scanner, key) throws(TensorFileFault) in
      switch key {
      case "dtype" where dtype == nil: dtype = try scanner.expectJSONString()
      case "shape" where shape == nil: shape = try scanner.expectIntegers()
      case "data_offsets" where offsets == nil: offsets = try scanner.expectIntegers()
      case "dtype", "shape", "data_offsets":
        throw TensorFileFault(.malformedHeader, "tensor \(name.quoted) has the key '\(key)' twice")
      default: try scanner.skipValue()
      }
    }
    guard let dtype, let shape, let offsets else {
      throw TensorFileFault(
        .malformedHeader, "tensor \(name.quoted) lacks one of 'dtype', 'shape' and 'data_offsets'")
    }
    guard offsets.count == 2, offsets[0] <= offsets[1] else {
      throw TensorFileFault(
        .invalidOffsets,
        "tensor \(name.quoted): expected 'data_offsets' [begin, end] with begin ≤ end, "
          + "found \(offsets.shortDescription)")
    }
    self.name = name
    self.dtype = dtype
    self.shape = shape
    begin = offsets[0]
    end = offsets[1]

    // Elements of a type that is not known here may have any size; nobody will read them.
    guard let layout = try knownLayout() else { return }
    guard layout.byteCount == end - begin else {
      throw TensorFileFault(
        .invalidOffsets,
        "tensor \(name.quoted): expected \(layout.byteCount) bytes of data for \(layout.summary), "
          + "found \(end - begin)")
    }
  }

  /// The element type and shape, or nil if the type is not among those that are read.
  private func knownLayout() throws(TensorFileFault) -> TensorLayout? {
    guard let type = TensorElementType(safetensorsName: dtype) else { return nil }
    do {
      return try TensorLayout(type, shape: shape)
    } catch {
      throw TensorFileFault(error.code, "tensor \(name.quoted): \(error.message)")
    }
  }

  /// The element type and shape.
  func layout() throws(TensorFileFault) -> TensorLayout {
    guard let layout = try knownLayout() else {
      throw TensorFileFault(
        .unsupportedElementType,
        "tensor \(name.quoted) has elements \(dtype.quoted); "
          + "expected \(TensorElementType.readable)")
    }
    return layout
  }
}

extension TensorElementType {
  /// The type that a `dtype` string of a safetensors header stands for, if it is one that is read.
  init?(safetensorsName name: String) {
    guard let type = Self.allCases.first(where: { $0.safetensorsName == name }) else { return nil }
    self = type
  }
}
