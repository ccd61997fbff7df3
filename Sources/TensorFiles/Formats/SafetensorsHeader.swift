/// The header of a safetensors file: its length in 8 bytes, and a JSON object that lists the tensors.
///
/// The format is described at https://github.com/huggingface/safetensors. As in the reference
/// implementation, the tensors must tile the data: no overlap, no gap, nothing after the last one.
struct SafetensorsHeader {
  /// The tensors in the order of their data.
  let entries: [SafetensorsEntry]
  /// Where the data begins, in bytes from the start of the file.
  let dataOffset: Int

  /// The longest header that is read, the limit of the reference implementation.
  static let lengthLimit = 100_000_000

  /// Reads the header of a file and checks every tensor in it.
  init(of file: UnsafeRawBufferPointer) throws(TensorFileFault) {
    guard file.count >= 8 else {
      throw TensorFileFault(
        .truncated, "truncated: expected 8 bytes of header length, the file has \(file.count)")
    }
    let length = file.littleEndian(at: 0, as: UInt64.self)
    guard length <= Self.lengthLimit else {
      throw TensorFileFault(
        .headerTooLarge,
        "oversized header, or not a safetensors file: \(length) bytes; expected at most \(Self.lengthLimit)")
    }
    dataOffset = 8 + Int(length)
    guard dataOffset <= file.count else {
      throw TensorFileFault(
        .truncated, "truncated: expected a header of \(dataOffset) bytes, the file has \(file.count)")
    }
    guard length > 0, file[8] == UInt8(ascii: "{") else {
      throw TensorFileFault(.notATensorFile, "not a safetensors file: its header does not begin with '{'")
    }
    entries = try Self.parse(file.slice(8..<dataOffset)).sorted {
      ($0.begin, $0.end) < ($1.begin, $1.end)
    }
    try Self.checkTiling(entries, byteCount: file.count - dataOffset)
  }

  private static func parse(_ bytes: UnsafeRawBufferPointer) throws(TensorFileFault) -> [SafetensorsEntry] {
    var scanner = ByteScanner(bytes)
    var entries: [SafetensorsEntry] = []
    // Names are compared by their bytes: Swift strings are equal already when they look the same.
    var names: Set<[UInt8]> = []
    try scanner.expectObject { (scanner, name) throws(TensorFileFault) in
      guard names.insert(Array(name.utf8)).inserted else {
        throw TensorFileFault(.duplicateTensor, "the header names \(name.quoted) twice")
      }
      if name == "__metadata__" {
        try scanner.skipValue()
      } else {
        entries.append(try SafetensorsEntry(named: name, from: &scanner))
      }
    }
    scanner.skipWhitespace()
    guard scanner.isAtEnd else { throw scanner.unexpected("nothing but white space") }
    return entries
  }

  /// Checks that the sorted entries cover the data once and entirely.
  private static func checkTiling(
    _ entries: [SafetensorsEntry], byteCount: Int
  ) throws(TensorFileFault) {
    var previous: SafetensorsEntry?
    for entry in entries {
      let expected = previous?.end ?? 0
      guard entry.begin == expected else {
        let fault = entry.begin < expected ? "overlaps the one before it" : "leaves a gap before it"
        throw TensorFileFault(
          .invalidOffsets,
          "tensor \(entry.name.quoted) \(fault): its data begins at \(entry.begin), expected \(expected)")
      }
      previous = entry
    }
    let expected = previous?.end ?? 0
    guard expected <= byteCount else {
      throw TensorFileFault(
        .truncated, "truncated: expected \(expected) bytes of data after the header, found \(byteCount)")
    }
    guard expected == byteCount else {
      throw TensorFileFault(
        .invalidOffsets,
        "data without a tensor: expected \(expected) bytes after the header, found \(byteCount)")
    }
  }

  /// The tensor of that name, or an error that lists those there are.
  func entry(named name: String) throws(TensorFileFault) -> SafetensorsEntry {
    if let entry = entries.first(where: { $0.name.utf8.elementsEqual(name.utf8) }) { return entry }
    let limit = 8
    let names = entries.map(\.name).sorted()
    let list = names.prefix(limit).map(\.quoted).joined(separator: ", ")
    let rest = names.count > limit ? " and \(names.count - limit) more" : ""
    throw TensorFileFault(
      .noSuchTensor,
      "no tensor \(name.quoted); the file holds " + (names.isEmpty ? "none" : list + rest))
  }
}
