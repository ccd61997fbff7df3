extension TensorElementType {
  /// The type that a `descr` string of a `.npy` header stands for.
  init(npyDescription description: String) throws(TensorFileFault) {
    if let type = Self.allCases.first(where: { $0.npyDescription == description }) {
      self = type
      return
    }
    let byteOrder = description.unicodeScalars.first
    let body = String(description.unicodeScalars.dropFirst())
    // '<V2' is how bfloat16 is saved; any other raw bytes are just that.
    let type = Self.allCases.first { $0 != .bfloat16 && $0.npyDescription.dropFirst() == body }
    switch (byteOrder, type) {
    case ("<", let type?), ("=", let type?), ("|", let type?):
      self = type
    case (">", let type?) where type.byteCount == 1:
      self = type
    case (">", let type?):
      throw TensorFileFault(
        .bigEndian,
        "big-endian elements '\(description)' (\(type)); expected little-endian '\(type.npyDescription)'")
    default:
      throw TensorFileFault(
        .unsupportedElementType,
        "elements \(description.quoted)\(Self.kind(of: body)); expected \(Self.readable)")
    }
  }

  /// What is expected, for messages.
  static let readable = "floating-point numbers of 16, 32 or 64 bits, integers or bool"

  /// What the letter of a `descr` stands for, in brackets.
  private static func kind(of body: String) -> String {
    switch body.unicodeScalars.first {
    case "O": " (pickled Python objects)"
    case "c": " (complex numbers)"
    case "S", "a", "U": " (strings)"
    case "V": " (raw bytes)"
    case "M", "m": " (dates or durations)"
    case "f": " (floating-point numbers of another width)"
    default: ""
    }
  }
}
