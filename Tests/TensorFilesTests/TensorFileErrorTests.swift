import BatchLossTensorFiles
import Testing

@Suite("TensorFiles: errors")
struct TensorFileErrorTests {
  @Test func isOneLine() {
    let error = TensorFileError(.truncated, file: "a\nb\u{1B}[31m.npy", "x\r\ny\u{2028}z")
    #expect(error.description == "a\\nb\\u{1B}[31m.npy: x\\r\\ny\\u{2028}z")
  }

  @Test func codesAreDistinct() {
    #expect(TensorFileError.Code.truncated != .bigEndian)
    #expect("\(TensorFileError.Code.truncated)" == "truncated")
    #expect(TensorFileError(.truncated, file: "a", "b") == TensorFileError(.truncated, file: "a", "b"))
    #expect(TensorFileError(.truncated, file: "a", "b") != TensorFileError(.bigEndian, file: "a", "b"))
  }
}
