import BatchLossTensorFiles
import Foundation
import Testing

/// A directory of its own for a test, removed with everything in it when the test is over.
final class Scratch {
  let path: String

  init() {
    var template = Array("/tmp/tensorfiles-XXXXXX".utf8CString)
    path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  /// The path of a file in the directory.
  func file(_ name: String) -> String { "\(path)/\(name)" }

  /// Writes a file and returns its path.
  func write(_ bytes: [UInt8], _ name: String) throws -> String {
    try Data(bytes).write(to: URL(fileURLWithPath: file(name)))
    return file(name)
  }

  /// The names in the directory, hidden ones included.
  var contents: [String] { (try? FileManager.default.contentsOfDirectory(atPath: path).sorted()) ?? [] }
}

func bytes(of path: String) throws -> [UInt8] {
  Array(try Data(contentsOf: URL(fileURLWithPath: path)))
}

/// The path of a file that numpy or safetensors wrote.
func fixture(_ name: String) -> String {
  URL(fileURLWithPath: #filePath).deletingLastPathComponent().path + "/Fixtures/" + name
}

// MARK: - Files from literals

/// A `.npy` file with the dictionary as given.
func npy(_ dictionary: String, version: UInt8 = 1, data: [UInt8] = []) -> [UInt8] {
  let text = Array(dictionary.utf8) + [0x0A]
  let length = (0..<(version == 1 ? 2 : 4)).map { UInt8(truncatingIfNeeded: text.count >> (8 * $0)) }
  return [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, version, 0] + length + text + data
}

/// A `.npy` file of the most usual form, its data aligned to 16 bytes.
func npy(_ descr: String, fortran: Bool = false, shape: String, data: [UInt8]) -> [UInt8] {
  let order = fortran ? "True" : "False"
  let dictionary = "{'descr': '\(descr)', 'fortran_order': \(order), 'shape': \(shape), }"
  let padding = String(repeating: " ", count: 15 - (10 + dictionary.utf8.count) % 16)
  return npy(dictionary + padding, data: data)
}

/// A safetensors file with the header as given.
func safetensors(_ json: String, data: [UInt8] = []) -> [UInt8] {
  littleEndian(UInt64(json.utf8.count)) + json.utf8 + data
}

func littleEndian<T: FixedWidthInteger>(_ value: T) -> [UInt8] {
  withUnsafeBytes(of: value.littleEndian, Array.init)
}

// MARK: - Reading

extension MappedTensor {
  func floats(_ range: Range<Int>? = nil) throws -> [Float] {
    let range = range ?? 0..<elementCount
    return try [Float](unsafeUninitializedCapacity: range.count) { buffer, count in
      try read(into: UnsafeMutableBufferPointer(rebasing: buffer[..<range.count]), from: range.lowerBound)
      count = range.count
    }
  }

  func doubles() throws -> [Double] {
    try [Double](unsafeUninitializedCapacity: elementCount) { buffer, count in
      try read(into: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]), from: 0)
      count = elementCount
    }
  }

  func int32s() throws -> [Int32] {
    try [Int32](unsafeUninitializedCapacity: elementCount) { buffer, count in
      try read(into: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]), from: 0)
      count = elementCount
    }
  }

  func int64s() throws -> [Int64] {
    try [Int64](unsafeUninitializedCapacity: elementCount) { buffer, count in
      try read(into: UnsafeMutableBufferPointer(rebasing: buffer[..<elementCount]), from: 0)
      count = elementCount
    }
  }
}

// MARK: - Errors

extension TensorFileError {
  var isOneLine: Bool { !description.contains { $0.isNewline } }
}

/// Expects an error of that code whose one-line description contains all the texts.
func expect(
  _ code: TensorFileError.Code, _ texts: String..., from body: () throws -> Void,
  sourceLocation: SourceLocation = #_sourceLocation
) {
  let error = #expect(throws: TensorFileError.self, sourceLocation: sourceLocation, performing: body)
  guard let error else { return }
  #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
  for text in texts {
    #expect(error.description.contains(text), "\(error)", sourceLocation: sourceLocation)
  }
  #expect(error.isOneLine, sourceLocation: sourceLocation)
}

/// Expects that opening these bytes as a `.npy` file fails.
func expectNpy(
  _ code: TensorFileError.Code, _ text: String, _ bytes: [UInt8],
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let scratch = Scratch()
  let path = try scratch.write(bytes, "x.npy")
  expect(code, path, text, from: { _ = try MappedTensor(opening: path) }, sourceLocation: sourceLocation)
}

/// Expects that opening the tensor `t` of these bytes as a safetensors file fails.
func expectSafetensors(
  _ code: TensorFileError.Code, _ text: String, _ bytes: [UInt8],
  sourceLocation: SourceLocation = #_sourceLocation
) throws {
  let scratch = Scratch()
  let path = try scratch.write(bytes, "x.safetensors")
  let open = { _ = try MappedTensor(opening: path + ":t") }
  expect(code, path, text, from: open, sourceLocation: sourceLocation)
}
