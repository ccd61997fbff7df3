/// A cursor over the bytes of a header; it never reads past their end.
struct ByteScanner {
  let bytes: UnsafeRawBufferPointer
  private(set) var position = 0

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  var isAtEnd: Bool { position == bytes.count }

  func peek() -> UInt8? { isAtEnd ? nil : bytes[position] }

  mutating func next() -> UInt8? {
    guard let byte = peek() else { return nil }
    position += 1
    return byte
  }

  /// Takes the byte if it comes next.
  mutating func take(_ character: Unicode.Scalar) -> Bool {
    guard peek() == UInt8(ascii: character) else { return false }
    position += 1
    return true
  }

  /// Takes the word if it comes next.
  mutating func take(word: StaticString) -> Bool {
    let end = position + word.utf8CodeUnitCount
    guard end <= bytes.count else { return false }
    let matches = word.withUTF8Buffer { bytes[position..<end].elementsEqual($0) }
    if matches { position = end }
    return matches
  }

  /// Takes the byte, or fails saying what comes instead.
  mutating func expect(_ character: Unicode.Scalar) throws(TensorFileFault) {
    guard take(character) else { throw unexpected("'\(character)'") }
  }

  /// Skips spaces, tabs and line breaks, which are white space in JSON and in Python alike.
  mutating func skipWhitespace() {
    while let byte = peek(), byte == 0x20 || (0x09...0x0A).contains(byte) || byte == 0x0D { position += 1 }
  }

  /// Takes a decimal integer without sign or leading zero that fits in `Int`.
  mutating func expectInteger() throws(TensorFileFault) -> Int {
    let start = position
    var value = 0
    while let byte = peek(), (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
      let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
      let (sum, carry) = tens.addingReportingOverflow(Int(byte - UInt8(ascii: "0")))
      guard !overflow, !carry else {
        throw TensorFileFault(
          .invalidShape, "overflowing number at byte \(start) of the header: it does not fit in 64 bits")
      }
      value = sum
      position += 1
    }
    guard position > start else { throw unexpected("a non-negative integer") }
    guard position == start + 1 || bytes[start] != UInt8(ascii: "0") else {
      throw TensorFileFault(.malformedHeader, "number with a leading zero at byte \(start) of the header")
    }
    return value
  }

  /// The error for a byte that does not fit the grammar.
  func unexpected(_ expected: String) -> TensorFileFault {
    let found: String
    switch peek() {
    case nil: found = "the end"
    case let byte? where (0x21...0x7E).contains(byte): found = "'\(Unicode.Scalar(byte))'"
    case let byte?: found = "byte 0x" + (byte < 16 ? "0" : "") + String(byte, radix: 16)
    }
    return TensorFileFault(
      .malformedHeader, "expected \(expected) at byte \(position) of the header, found \(found)")
  }
}

extension UnsafeRawBufferPointer {
  /// The unsigned little-endian integer at an offset that the caller has checked.
  func littleEndian<T: FixedWidthInteger & BitwiseCopyable>(at offset: Int, as type: T.Type) -> T {
    T(littleEndian: loadUnaligned(fromByteOffset: offset, as: type))
  }

  /// Part of the buffer, as a buffer.
  func slice(_ range: Range<Int>) -> UnsafeRawBufferPointer { UnsafeRawBufferPointer(rebasing: self[range]) }
}
