/// What a safetensors header needs of JSON.
///
/// Not Foundation's reader, because that one drops repeated keys silently, rounds large integers, and would
/// first build a tree of up to 100 MB of text.
extension ByteScanner {
  /// Takes an object, calling `member` with each key when its value comes next.
  mutating func expectObject(
    _ member: (inout ByteScanner, String) throws(TensorFileFault) -> Void
  ) throws(TensorFileFault) {
    try expect("{")
    skipWhitespace()
    if take("}") { return }
    repeat {
      skipWhitespace()
      let key = try expectJSONString()
      skipWhitespace()
      try expect(":")
      skipWhitespace()
      try member(&self, key)
      skipWhitespace()
    } while take(",")
    try expect("}")
  }

  /// Takes an array, calling `element` when one comes next.
  mutating func expectArray(
    _ element: (inout ByteScanner) throws(TensorFileFault) -> Void
  ) throws(TensorFileFault) {
    try expect("[")
    skipWhitespace()
    if take("]") { return }
    repeat {
      skipWhitespace()
      try element(&self)
      skipWhitespace()
    } while take(",")
    try expect("]")
  }

  /// Takes an array of non-negative integers.
  mutating func expectIntegers() throws(TensorFileFault) -> [Int] {
    var values: [Int] = []
    try expectArray { (scanner) throws(TensorFileFault) in
      if scanner.peek() == UInt8(ascii: "-") {
        throw TensorFileFault(
          .malformedHeader, "negative number at byte \(scanner.position) of the header")
      }
      values.append(try scanner.expectInteger())
    }
    return values
  }

  /// Takes any value and drops it.
  mutating func skipValue(depth: Int = 0) throws(TensorFileFault) {
    guard depth < 64 else {
      throw TensorFileFault(.malformedHeader, "more than 64 nested values at byte \(position) of the header")
    }
    switch peek().map(Unicode.Scalar.init) {
    case "{":
      try expectObject { (scanner, _) throws(TensorFileFault) in try scanner.skipValue(depth: depth + 1) }
    case "[":
      try expectArray { (scanner) throws(TensorFileFault) in try scanner.skipValue(depth: depth + 1) }
    case "\"":
      _ = try expectJSONString()
    default:
      try skipScalar()
    }
  }

  /// Takes a number or a word. A number is not looked at closely, as its value is not used.
  private mutating func skipScalar() throws(TensorFileFault) {
    if take(word: "true") || take(word: "false") || take(word: "null") { return }
    let start = position
    while let byte = peek(), "+-.0123456789eE".utf8.contains(byte) { _ = next() }
    guard position > start else { throw unexpected("a JSON value") }
  }

  /// Takes a string.
  mutating func expectJSONString() throws(TensorFileFault) -> String {
    guard take("\"") else { throw unexpected("a JSON string") }
    let start = position
    var utf8: [UInt8] = []
    while let byte = peek() {
      switch byte {
      case UInt8(ascii: "\""):
        _ = next()
        guard let text = String(validating: utf8, as: UTF8.self) else {
          throw TensorFileFault(.malformedHeader, "string at byte \(start) of the header is not UTF-8")
        }
        return text
      case UInt8(ascii: "\\"):
        _ = next()
        utf8 += String(try expectEscape()).utf8
      case 0..<0x20:
        throw unexpected("a character of a string")
      default:
        utf8.append(byte)
        _ = next()
      }
    }
    throw unexpected("the end of a string")
  }

  /// Takes what follows a backslash.
  private mutating func expectEscape() throws(TensorFileFault) -> Unicode.Scalar {
    switch peek().map(Unicode.Scalar.init) {
    case let plain? where ["\"", "\\", "/"].contains(plain):
      _ = next()
      return plain
    case "b": _ = next(); return "\u{08}"
    case "f": _ = next(); return "\u{0C}"
    case "n": _ = next(); return "\n"
    case "r": _ = next(); return "\r"
    case "t": _ = next(); return "\t"
    case "u":
      _ = next()
      return try expectUnicodeEscape()
    default: throw unexpected("a JSON escape")
    }
  }

  /// Takes the four digits after `\u`, and a second escape when they are half of a surrogate pair.
  private mutating func expectUnicodeEscape() throws(TensorFileFault) -> Unicode.Scalar {
    let first = try expectHexDigits()
    if let scalar = Unicode.Scalar(first) { return scalar }
    if UTF16.isLeadSurrogate(first), take(word: "\\u") {
      let second = try expectHexDigits()
      let offset = UInt32(first & 0x03FF) << 10 | UInt32(second & 0x03FF)
      if UTF16.isTrailSurrogate(second), let scalar = Unicode.Scalar(0x1_0000 + offset) { return scalar }
    }
    throw TensorFileFault(.malformedHeader, "unpaired surrogate before byte \(position) of the header")
  }

  private mutating func expectHexDigits() throws(TensorFileFault) -> UInt16 {
    var value: UInt16 = 0
    for _ in 0..<4 {
      guard let byte = peek(), let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
        throw unexpected("a hexadecimal digit")
      }
      value = value << 4 | UInt16(digit)
      _ = next()
    }
    return value
  }
}
