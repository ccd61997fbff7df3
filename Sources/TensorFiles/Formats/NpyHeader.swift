/// The header of a `.npy` file, versions 1.0 to 3.0: magic, version, length, and a Python dictionary.
///
/// The format is described in `numpy.lib.format`.
struct NpyHeader {
  let layout: TensorLayout
  /// Where the elements begin, in bytes from the start of the file.
  let dataOffset: Int

  static let magic: [UInt8] = [0x93] + "NUMPY".utf8
  /// The longest header that is read. numpy's own headers are below 1 KiB and it refuses 10 000 bytes.
  static let lengthLimit = 65_535

  /// Reads the header of a file and checks that the file holds what it promises.
  ///
  /// Bytes after the last element are allowed, as in numpy.
  init(of file: UnsafeRawBufferPointer) throws(TensorFileFault) {
    let dictionary = try Self.locateDictionary(in: file)
    let fields = try NpyDictionary(file.slice(dictionary))
    layout = try TensorLayout(TensorElementType(npyDescription: fields.description), shape: fields.shape)
    dataOffset = dictionary.upperBound

    guard !fields.isFortranOrder || layout.orderIsIrrelevant else {
      throw TensorFileFault(
        .fortranOrder,
        "Fortran (column-major) order of \(layout.summary); expected C order (numpy.ascontiguousarray)")
    }
    let available = file.count - dataOffset
    guard layout.byteCount <= available else {
      throw TensorFileFault(
        .truncated,
        "truncated: expected \(layout.byteCount) bytes of data for \(layout.summary), found \(available)")
    }
  }

  /// The bytes of the dictionary, found from the fixed part of the header.
  private static func locateDictionary(
    in file: UnsafeRawBufferPointer
  ) throws(TensorFileFault) -> Range<Int> {
    guard file.prefix(magic.count).elementsEqual(magic.prefix(file.count)) else {
      throw TensorFileFault(.notATensorFile, "not a .npy file: it does not begin with \\x93NUMPY")
    }
    guard file.count >= 8 else { throw truncatedHeader(expected: 8, found: file.count) }
    let lengthSize: Int
    switch (file[6], file[7]) {
    case (1, 0): lengthSize = 2
    case (2, 0), (3, 0): lengthSize = 4
    case (let major, let minor):
      throw TensorFileFault(
        .unsupportedVersion, ".npy format version \(major).\(minor); expected 1.0, 2.0 or 3.0")
    }
    let start = 8 + lengthSize
    guard file.count >= start else { throw truncatedHeader(expected: start, found: file.count) }
    let length =
      lengthSize == 2
      ? Int(file.littleEndian(at: 8, as: UInt16.self))
      : Int(file.littleEndian(at: 8, as: UInt32.self))
    guard length <= lengthLimit else {
      throw TensorFileFault(
        .headerTooLarge, "oversized header: \(length) bytes; expected at most \(lengthLimit)")
    }
    guard length <= file.count - start else {
      throw truncatedHeader(expected: start + length, found: file.count)
    }
    return start..<start + length
  }

  private static func truncatedHeader(expected: Int, found: Int) -> TensorFileFault {
    TensorFileFault(.truncated, "truncated: expected a header of \(expected) bytes, the file has \(found)")
  }
}

// MARK: - Writing

extension NpyHeader {
  /// The bytes of a version 1.0 header, padded with spaces so that the elements begin at a multiple of 64.
  static func encode(_ layout: TensorLayout) throws(TensorFileFault) -> [UInt8] {
    let extents = layout.shape.map(String.init).joined(separator: ", ") + (layout.shape.count == 1 ? "," : "")
    let dictionary =
      "{'descr': '\(layout.elementType.npyDescription)', 'fortran_order': False, 'shape': (\(extents)), }"
    let fixed = magic.count + 4
    let total = (fixed + dictionary.utf8.count + 1 + 63) / 64 * 64
    guard total - fixed <= lengthLimit else {
      throw TensorFileFault(
        .headerTooLarge, "shape with \(layout.shape.count) extents does not fit in a .npy 1.0 header")
    }
    let length = UInt16(total - fixed)
    var bytes = magic + [1, 0, UInt8(truncatingIfNeeded: length), UInt8(length >> 8)] + dictionary.utf8
    bytes += repeatElement(UInt8(ascii: " "), count: total - bytes.count - 1)
    bytes.append(UInt8(ascii: "\n"))
    return bytes
  }
}
