/// The Python dictionary in a `.npy` header.
///
/// Only the literals that the format calls for are understood: exactly the keys `descr`, `fortran_order`
/// and `shape`, each once, in any order; strings without escapes, `True`, `False`, and a tuple of
/// non-negative integers. A trailing comma and white space are allowed wherever Python allows them.
struct NpyDictionary {
  let description: String
  let isFortranOrder: Bool
  let shape: [Int]

  init(_ bytes: UnsafeRawBufferPointer) throws(TensorFileFault) {
    var scanner = ByteScanner(bytes)
    var description: String?
    var isFortranOrder: Bool?
    var shape: [Int]?

    scanner.skipWhitespace()
    try scanner.expect("{")
    scanner.skipWhitespace()
    while !scanner.take("}") {
      let key = try scanner.expectPythonString()
      scanner.skipWhitespace()
      try scanner.expect(":")
      scanner.skipWhitespace()
      switch key {
      case "descr" where description == nil: description = try scanner.expectDescription()
      case "fortran_order" where isFortranOrder == nil: isFortranOrder = try scanner.expectBool()
      case "shape" where shape == nil: shape = try scanner.expectTuple()
      case "descr", "fortran_order", "shape":
        throw TensorFileFault(.malformedHeader, "the header has the key '\(key)' twice")
      default:
        throw TensorFileFault(
          .malformedHeader,
          "unknown key \(key.quoted) in the header; expected 'descr', 'fortran_order' and 'shape'")
      }
      scanner.skipWhitespace()
      guard scanner.take(",") else {
        try scanner.expect("}")
        break
      }
      scanner.skipWhitespace()
    }
    scanner.skipWhitespace()
    guard scanner.isAtEnd else { throw scanner.unexpected("nothing but white space") }

    self.description = try Self.require(description, "descr")
    self.isFortranOrder = try Self.require(isFortranOrder, "fortran_order")
    self.shape = try Self.require(shape, "shape")
  }

  private static func require<T>(_ value: T?, _ key: String) throws(TensorFileFault) -> T {
    guard let value else { throw TensorFileFault(.malformedHeader, "the header lacks the key '\(key)'") }
    return value
  }
}

// MARK: - Python literals

extension ByteScanner {
  fileprivate mutating func expectPythonString() throws(TensorFileFault) -> String {
    let quote: Unicode.Scalar
    if take("'") {
      quote = "'"
    } else if take("\"") {
      quote = "\""
    } else {
      throw unexpected("a quoted string")
    }
    let start = position
    while !isAtEnd {
      let end = position
      if take(quote) {
        guard let text = String(validating: bytes[start..<end], as: UTF8.self) else {
          throw TensorFileFault(.malformedHeader, "string at byte \(start) of the header is not UTF-8")
        }
        return text
      }
      if peek() == UInt8(ascii: "\\") { throw unexpected("a string without escapes") }
      _ = next()
    }
    throw unexpected("the end of a string")
  }

  fileprivate mutating func expectBool() throws(TensorFileFault) -> Bool {
    if take(word: "True") { return true }
    if take(word: "False") { return false }
    throw unexpected("True or False")
  }

  /// Takes the element type, which is a string unless it is a structure or an array of its own.
  fileprivate mutating func expectDescription() throws(TensorFileFault) -> String {
    if peek() == UInt8(ascii: "[") {
      throw TensorFileFault(
        .unsupportedElementType, "structured elements; expected \(TensorElementType.readable)")
    }
    if peek() == UInt8(ascii: "(") {
      throw TensorFileFault(
        .unsupportedElementType, "subarray elements; expected \(TensorElementType.readable)")
    }
    return try expectPythonString()
  }

  /// Takes `()`, `(3,)`, `(3, 4)` or `(3, 4,)`. As in Python, `(3)` is a number and not a tuple.
  fileprivate mutating func expectTuple() throws(TensorFileFault) -> [Int] {
    var values: [Int] = []
    try expect("(")
    skipWhitespace()
    while !take(")") {
      if peek() == UInt8(ascii: "-") {
        throw TensorFileFault(.invalidShape, "negative extent in the shape of the header")
      }
      values.append(try expectInteger())
      _ = take("L")  // Python 2 wrote long integers so.
      skipWhitespace()
      if values.count == 1 || peek() != UInt8(ascii: ")") { try expect(",") }
      skipWhitespace()
    }
    return values
  }
}
