import BatchLossTensorFiles
import Testing

@Suite("TensorFiles: safetensors headers")
struct SafetensorsTests {
  private func entry(_ dtype: String, _ shape: String, _ begin: Int, _ end: Int) -> String {
    "{\"dtype\":\"\(dtype)\",\"shape\":\(shape),\"data_offsets\":[\(begin),\(end)]}"
  }

  // MARK: Accepted

  @Test func readsEachTensor() throws {
    let scratch = Scratch()
    let json = """
      { "__metadata__": {"format": "pt", "nested": [1, -2.5e3, {"a": null, "b": [true, false]}]},
        "b": \(entry("F32", "[1]", 3, 7)), "a": \(entry("U8", "[3]", 0, 3)),
        "none": \(entry("I64", "[5,0]", 7, 7)),
        "x" : { "data_offsets" : [ 7 , 9 ] , "extra": "ignored", "shape" : [ ] , "dtype" : "BF16" } }

      """
    let data = [1, 2, 255] + littleEndian(Float(0.5).bitPattern) + [0x80, 0xBF]
    let path = try scratch.write(safetensors(json, data: data), "m.safetensors")
    #expect(try MappedTensor(opening: path + ":a").int32s() == [1, 2, 255])
    #expect(try MappedTensor(opening: path + ":b").floats() == [0.5])
    #expect(try MappedTensor(opening: path + ":x").floats() == [-1])
    let none = try MappedTensor(opening: path + ":none")
    #expect(none.shape == [5, 0])
    #expect(try none.int64s() == [])
    // There is nothing to align.
    #expect(try none.withElements(as: Int64.self) { $0.count } == 0)
  }

  @Test func readsMisalignedElementsButDoesNotLendThem() throws {
    let scratch = Scratch()
    let json = "{\"a\":\(entry("U8", "[1]", 0, 1)),\"t\":\(entry("F64", "[2]", 1, 17))}"
    // Pad so that the data begins at a multiple of 8.
    let padded = json + String(repeating: " ", count: (8 - json.utf8.count % 8) % 8)
    let data = [9] + littleEndian(1.5.bitPattern) + littleEndian((-3.0).bitPattern)
    let path = try scratch.write(safetensors(padded, data: data), "m.safetensors")
    let tensor = try MappedTensor(opening: path + ":t")
    #expect(try tensor.floats() == [1.5, -3])
    #expect(try tensor.doubles() == [1.5, -3])
    #expect(tensor.withBytes { $0.count } == 16)
    expect(.misaligned, "byte") { try tensor.withElements(as: Double.self) { _ in } }
  }

  @Test(arguments: [
    ("\\u0074", "t"), ("\\\"\\\\\\/\\b\\f\\n\\r\\t", "\"\\/\u{8}\u{C}\n\r\t"), ("\\ud83d\\uDE00", "😀"),
    ("schön", "schön"),
  ])
  func understandsEscapesInNames(_ spelt: String, _ name: String) throws {
    let scratch = Scratch()
    let bytes = safetensors("{\"\(spelt)\":\(entry("U8", "[]", 0, 1))}", data: [7])
    let path = try scratch.write(bytes, "m.safetensors")
    #expect(try MappedTensor(opening: .safetensors(path, tensor: name)).int32s() == [7])
  }

  @Test func distinguishesNamesThatLookTheSame() throws {
    let scratch = Scratch()
    let json = "{\"\u{E9}\":\(entry("U8", "[]", 0, 1)),\"e\u{301}\":\(entry("U8", "[]", 1, 2))}"
    let path = try scratch.write(safetensors(json, data: [1, 2]), "m.safetensors")
    #expect(try MappedTensor(opening: path + ":\u{E9}").int32s() == [1])
    #expect(try MappedTensor(opening: path + ":e\u{301}").int32s() == [2])
  }

  // MARK: Fixed part

  @Test(arguments: 1..<8)
  func rejectsShortFiles(_ count: Int) throws {
    try expectSafetensors(.truncated, "the file has \(count)", Array(repeating: 0, count: count))
  }

  @Test func rejectsHeaderLengths() throws {
    try expectSafetensors(.headerTooLarge, "100000001 bytes", littleEndian(100_000_001 as UInt64) + "{}".utf8)
    try expectSafetensors(.headerTooLarge, "18446744073709551615", littleEndian(UInt64.max) + "{}".utf8)
    try expectSafetensors(
      .truncated, "expected a header of 11 bytes, the file has 10", littleEndian(3 as UInt64) + "{}".utf8)
    try expectSafetensors(.notATensorFile, "does not begin with '{'", littleEndian(0 as UInt64))
    try expectSafetensors(.notATensorFile, "does not begin with '{'", littleEndian(2 as UInt64) + "[]".utf8)
  }

  // MARK: JSON

  @Test(arguments: [
    ("{", "expected a JSON string"),
    ("{\"t\"", "expected ':'"),
    ("{\"t\":", "expected '{'"),
    ("{\"t\":3}", "expected '{'"),
    ("{\"t\":{}}", "lacks one of"),
    ("{\"t\":{},}", "lacks one of"),
    ("{\"__metadata__\":{},}", "expected a JSON string"),
    ("{\"__metadata__\":{}} x", "expected nothing but white space"),
    ("{\"__metadata__\":x}", "expected a JSON value"),
    ("{\"__metadata__\":[1 2]}", "expected ']'"),
    ("{\"__metadata__\":\"\u{1}\"}", "expected a character of a string"),
    ("{\"__metadata__\":\"\\x\"}", "expected a JSON escape"),
    ("{\"__metadata__\":\"\\u12G4\"}", "expected a hexadecimal digit"),
    ("{\"__metadata__\":\"\\ud83d\"}", "surrogate"),
    ("{\"__metadata__\":\"\\ud83d\\u0041\"}", "surrogate"),
    ("{\"__metadata__\":\"\\ude00\"}", "surrogate"),
    ("{\"__metadata__\":\"", "expected the end of a string"),
    ("{\"t\":{\"dtype\":\"U8\",\"dtype\":\"U8\"}}", "'dtype' twice"),
    ("{\"t\":{\"dtype\":3}}", "expected a JSON string"),
    ("{\"t\":{\"shape\":3}}", "expected '['"),
    ("{\"t\":{\"shape\":[-1]}}", "negative number"),
    ("{\"t\":{\"shape\":[1.0]}}", "expected ']'"),
    ("{\"t\":{\"shape\":[1e3]}}", "expected ']'"),
    ("{\"t\":{\"shape\":[\"1\"]}}", "expected a non-negative integer"),
    ("{\"t\":{\"shape\":[1,]}}", "expected a non-negative integer"),
    ("{\"t\":{\"dtype\":\"U8\",\"shape\":[]}}", "lacks one of"),
  ])
  func rejectsGrammar(_ json: String, _ message: String) throws {
    try expectSafetensors(.malformedHeader, message, safetensors(json))
  }

  @Test func rejectsDeepNesting() throws {
    let deep = String(repeating: "[", count: 100_000)
    try expectSafetensors(.malformedHeader, "64 nested values", safetensors("{\"__metadata__\":\(deep)"))
  }

  @Test func rejectsTextThatIsNotUTF8() throws {
    var bytes = safetensors("{\"?\":\(entry("U8", "[]", 0, 1))}", data: [0])
    bytes[10] = 0xC3
    try expectSafetensors(.malformedHeader, "not UTF-8", bytes)
  }

  // MARK: Tensors

  @Test func rejectsRepeatedNames() throws {
    let one = "\"t\":\(entry("U8", "[1]", 0, 1))"
    try expectSafetensors(.duplicateTensor, "'t' twice", safetensors("{\(one),\(one)}", data: [0]))
    let spelt = "\"\\u0074\":\(entry("U8", "[1]", 1, 2))"
    try expectSafetensors(.duplicateTensor, "'t' twice", safetensors("{\(one),\(spelt)}", data: [0, 0]))
  }

  @Test func rejectsOffsets() throws {
    func file(_ entries: String..., data: Int) -> [UInt8] {
      let members = zip(["t", "u", "v"], entries).map { "\"\($0)\":\($1)" }
      return safetensors("{\(members.joined(separator: ","))}", data: Array(repeating: 0, count: data))
    }
    let byte = entry("U8", "[1]", 0, 1)
    let pair = entry("U8", "[2]", 0, 2)
    let overflow = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,18446744073709551615]}}"
    try expectSafetensors(.invalidShape, "64 bits", safetensors(overflow))
    let single = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}"
    try expectSafetensors(.invalidOffsets, "found [0]", safetensors(single, data: [0]))
    let reversed = entry("U8", "[1]", 2, 1)
    try expectSafetensors(.invalidOffsets, "begin ≤ end, found [2, 1]", file(reversed, data: 2))
    let short = entry("F32", "[2]", 0, 4)
    try expectSafetensors(
      .invalidOffsets, "expected 8 bytes of data for float32 [2], found 4", file(short, data: 4))
    let beyond = entry("F32", "[2]", 0, 8)
    try expectSafetensors(
      .truncated, "expected 8 bytes of data after the header, found 7", file(beyond, data: 7))
    let huge = entry("U8", "[\(Int.max)]", 0, Int.max)
    try expectSafetensors(.truncated, "expected 9223372036854775807 bytes", file(huge, data: 7))
    let late = entry("U8", "[1]", 1, 2)
    try expectSafetensors(
      .invalidOffsets, "'t' leaves a gap before it: its data begins at 1, expected 0", file(late, data: 2))
    let third = entry("U8", "[1]", 2, 3)
    try expectSafetensors(.invalidOffsets, "'u' leaves a gap", file(byte, third, data: 3))
    let crossing = entry("U8", "[2]", 1, 3)
    try expectSafetensors(.invalidOffsets, "'u' overlaps", file(pair, crossing, data: 3))
    try expectSafetensors(.invalidOffsets, "overlaps", file(pair, pair, data: 2))
    try expectSafetensors(
      .invalidOffsets, "data without a tensor: expected 1 bytes after the header, found 2",
      file(byte, data: 2))
  }

  @Test func rejectsOverflowingShapes() throws {
    let json = "{\"t\":\(entry("F32", "[4294967296,4294967296]", 0, 4))}"
    try expectSafetensors(.invalidShape, "'t': overflowing shape", safetensors(json, data: [0, 0, 0, 0]))
  }

  @Test func rejectsOtherTypesOnlyWhenAskedFor() throws {
    let json = "{\"t\":\(entry("F8_E4M3", "[2]", 0, 2)),\"u\":\(entry("U8", "[1]", 2, 3))}"
    let bytes = safetensors(json, data: [0, 0, 5])
    try expectSafetensors(.unsupportedElementType, "'F8_E4M3'", bytes)
    let scratch = Scratch()
    #expect(try MappedTensor(opening: try scratch.write(bytes, "m.safetensors") + ":u").int32s() == [5])
  }

  @Test func listsNamesWhenThereIsNoSuchTensor() throws {
    let few = "{\"b\":\(entry("U8", "[0]", 0, 0)),\"a\":\(entry("U8", "[0]", 0, 0))}"
    try expectSafetensors(.noSuchTensor, "no tensor 't'; the file holds 'a', 'b'", safetensors(few))
    try expectSafetensors(.noSuchTensor, "the file holds none", safetensors("{}"))
    let many = (0..<20).map { "\"n\(10 + $0)\":\(entry("U8", "[0]", 0, 0))" }.joined(separator: ",")
    try expectSafetensors(.noSuchTensor, "'n10', 'n11'", safetensors("{\(many)}"))
    try expectSafetensors(.noSuchTensor, "'n17' and 12 more", safetensors("{\(many)}"))
    // The metadata are not a tensor.
    let metadata = safetensors("{\"__metadata__\":{}}")
    let scratch = Scratch()
    let path = try scratch.write(metadata, "m.safetensors")
    expect(.noSuchTensor, "holds none") { _ = try MappedTensor(opening: path + ":__metadata__") }
  }
}
