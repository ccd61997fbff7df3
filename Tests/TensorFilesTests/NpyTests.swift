import BatchLossTensorFiles
import Testing

@Suite("TensorFiles: .npy headers")
struct NpyTests {
  private static let two = littleEndian(Float(1).bitPattern) + littleEndian(Float(-2).bitPattern)

  // MARK: Accepted

  @Test(arguments: [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}",
    "{\"shape\":(2,),\"fortran_order\":False,\"descr\":\"<f4\"}",
    "  {\t'shape' : ( 2 , ) ,\n'descr' : '=f4' , 'fortran_order' : True }   \n  ",
    "{'descr': '|f4', 'fortran_order': False, 'shape': (2L,), }",
  ])
  func acceptsSpellings(_ dictionary: String) throws {
    for version: UInt8 in 1...3 {
      let scratch = Scratch()
      let path = try scratch.write(npy(dictionary, version: version, data: Self.two), "x.npy")
      let tensor = try MappedTensor(opening: path)
      #expect(tensor.shape == [2])
      #expect(tensor.elementType == .float32)
      #expect(try tensor.floats() == [1, -2])
    }
  }

  @Test(arguments: [
    ("()", [], 1), ("(1,)", [1], 1), ("(1, 2)", [1, 2], 2), ("(2, 1,)", [2, 1], 2), ("(0,)", [0], 0),
    ("(7, 0, 5)", [7, 0, 5], 0), ("(1, 1, 1, 1, 2)", [1, 1, 1, 1, 2], 2),
  ])
  func acceptsShapes(_ text: String, _ shape: [Int], _ count: Int) throws {
    let scratch = Scratch()
    // None of these has more than one extent that matters, so that both orders are the same.
    for fortran in [false, true] {
      let bytes = npy("<f4", fortran: fortran, shape: text, data: Array(Self.two.prefix(4 * count)))
      let tensor = try MappedTensor(opening: try scratch.write(bytes, "x.npy"))
      #expect(tensor.shape == shape)
      #expect(tensor.elementCount == count)
      #expect(tensor.byteCount == 4 * count)
      #expect(try tensor.floats() == Array([1, -2].prefix(count)))
      #expect(try tensor.withElements(as: Float.self) { Array($0) } == Array([1, -2].prefix(count)))
      tensor.adviseSequential()
      tensor.adviseDone(0..<count)
    }
  }

  @Test func acceptsBytesAfterTheLastElement() throws {
    let scratch = Scratch()
    let path = try scratch.write(npy("<f4", shape: "(2,)", data: Self.two + [1, 2, 3]), "x.npy")
    #expect(try MappedTensor(opening: path).floats() == [1, -2])
  }

  @Test(arguments: ["|i1", ">i1", "<i1", "=i1"])
  func byteOrderOfSingleBytesDoesNotMatter(_ descr: String) throws {
    let scratch = Scratch()
    let path = try scratch.write(npy(descr, shape: "(2,)", data: [1, 0xFF]), "x.npy")
    #expect(try MappedTensor(opening: path).int32s() == [1, -1])
  }

  // MARK: Fixed part

  @Test(arguments: 0..<10)
  func rejectsShortFiles(_ count: Int) throws {
    try expectNpy(.truncated, "truncated", Array(npy("<f4", shape: "()", data: []).prefix(count)))
  }

  @Test func rejectsOtherFiles() throws {
    try expectNpy(.notATensorFile, "not a .npy file", Array("PK\u{3}\u{4} a zip archive".utf8))
    try expectNpy(.notATensorFile, "not a .npy file", [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x58, 1, 0, 0, 0])
    try expectNpy(.notATensorFile, "not a .npy file", [0x41])
  }

  @Test(arguments: [(0, 0), (1, 1), (4, 0), (255, 255)] as [(UInt8, UInt8)])
  func rejectsVersions(_ major: UInt8, _ minor: UInt8) throws {
    var bytes = npy("<f4", shape: "()", data: [0, 0, 0, 0])
    (bytes[6], bytes[7]) = (major, minor)
    try expectNpy(.unsupportedVersion, "version \(major).\(minor)", bytes)
  }

  @Test func rejectsHeaderLengths() throws {
    let magic: [UInt8] = [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59]
    try expectNpy(.truncated, "expected a header of 65545 bytes", magic + [1, 0, 0xFF, 0xFF, 0x7B])
    try expectNpy(.truncated, "expected a header of 13 bytes, the file has 12", magic + [2, 0, 1, 0, 0, 0])
    try expectNpy(.headerTooLarge, "65536 bytes", magic + [2, 0, 0, 0, 1, 0])
    try expectNpy(.headerTooLarge, "4294967295 bytes", magic + [3, 0, 0xFF, 0xFF, 0xFF, 0xFF])
  }

  // MARK: Dictionary

  @Test(arguments: [
    ("", "expected '{'"),
    ("{", "expected a quoted string"),
    ("{}", "lacks the key 'descr'"),
    ("{'descr': '<f4', 'shape': ()}", "lacks the key 'fortran_order'"),
    ("{'descr': '<f4', 'fortran_order': False}", "lacks the key 'shape'"),
    ("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}", "'descr' twice"),
    ("{'shape': (), 'shape': (), 'descr': '<f4', 'fortran_order': False}", "'shape' twice"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (), 'x': 1}", "unknown key 'x'"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': ()", "expected '}'"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", "expected nothing but white space"),
    ("{'descr': '<f4',, 'fortran_order': False, 'shape': ()}", "expected a quoted string"),
    ("{'descr' '<f4', 'fortran_order': False, 'shape': ()}", "expected ':'"),
    ("{'descr': <f4, 'fortran_order': False, 'shape': ()}", "expected a quoted string"),
    ("{'descr': '<f4", "expected the end of a string"),
    ("{'descr': '<f\\x34', 'fortran_order': False, 'shape': ()}", "without escapes"),
    ("{'descr': '<f4', 'fortran_order': 0, 'shape': ()}", "expected True or False"),
    ("{'descr': '<f4', 'fortran_order': Falsetto, 'shape': ()}", "found 't'"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': 3}", "expected '('"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': [3]}", "expected '('"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3)}", "expected ','"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (,)}", "expected a non-negative integer"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3 4)}", "expected ','"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4 5)}", "expected ','"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,,)}", "expected a non-negative integer"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3.0,)}", "expected ','"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (03,)}", "leading zero"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,", "expected a non-negative integer"),
  ])
  func rejectsGrammar(_ dictionary: String, _ message: String) throws {
    try expectNpy(.malformedHeader, message, npy(dictionary))
  }

  @Test func rejectsTextThatIsNotUTF8() throws {
    var bytes = npy("<f4", shape: "()", data: [0, 0, 0, 0])
    let descr = try #require(bytes.firstIndex(of: UInt8(ascii: "<")))
    bytes[descr] = 0xFF
    try expectNpy(.malformedHeader, "not UTF-8", bytes)
  }

  // MARK: Element types

  @Test(arguments: TensorElementType.allCases.filter { $0.byteCount > 1 && $0 != .bfloat16 })
  func rejectsBigEndian(_ type: TensorElementType) throws {
    let descr = ">" + type.npyDescription.dropFirst()
    let bytes = npy(descr, shape: "()", data: Array(repeating: 0, count: 8))
    try expectNpy(.bigEndian, "'\(descr)' (\(type)); expected little-endian '\(type.npyDescription)'", bytes)
  }

  @Test(arguments: [
    ("|O", "Python objects"), ("<c8", "complex"), (">c16", "complex"), ("<U5", "strings"),
    ("|S3", "strings"), ("|V8", "raw bytes"), ("|V2", "raw bytes"), (">V2", "raw bytes"),
    ("<M8[ns]", "dates"), ("<m8", "durations"), ("<f16", "another width"), ("<f1", "another width"),
    ("<i16", "'<i16'"), ("f4", "'f4'"), ("float32", "'float32'"), ("", "''"), ("<", "'<'"),
    ("!f4", "'!f4'"), ("<f4 ", "'<f4 '"), ("<b4", "'<b4'"),
  ])
  func rejectsOtherTypes(_ descr: String, _ message: String) throws {
    let bytes = npy(descr, shape: "(1,)", data: Array(repeating: 0, count: 16))
    try expectNpy(.unsupportedElementType, message, bytes)
  }

  @Test func rejectsStructures() throws {
    try expectNpy(
      .unsupportedElementType, "structured",
      npy("{'descr': [('a', '<f4'), ('b', '<i4')], 'fortran_order': False, 'shape': (1,)}"))
    try expectNpy(
      .unsupportedElementType, "subarray",
      npy("{'descr': ('<f4', (2,)), 'fortran_order': False, 'shape': ()}"))
  }

  @Test func shortensLongTypes() throws {
    let descr = String(repeating: "x", count: 1000)
    try expectNpy(.unsupportedElementType, "'\(descr.prefix(60))…'", npy(descr, shape: "()", data: []))
  }

  // MARK: Shapes

  @Test(arguments: ["(2, 2)", "(1, 2, 3)", "(2, 1, 2)"])
  func rejectsFortranOrder(_ shape: String) throws {
    let bytes = npy("<f4", fortran: true, shape: shape, data: Array(repeating: 0, count: 24))
    try expectNpy(.fortranOrder, "Fortran (column-major) order of float32", bytes)
  }

  @Test(arguments: [
    ("(9223372036854775808,)", "does not fit in 64 bits"),
    ("(99999999999999999999999999,)", "does not fit in 64 bits"),
    ("(9223372036854775807,)", "overflowing shape"),
    ("(2305843009213693952,)", "overflowing shape"),
    ("(4294967296, 4294967296)", "overflowing shape"),
    ("(4294967296, 4294967296, 0)", "overflowing shape"),
    ("(0, 4294967296, 4294967296)", "overflowing shape"),
    ("(-1,)", "negative"),
  ])
  func rejectsShapes(_ shape: String, _ message: String) throws {
    try expectNpy(.invalidShape, message, npy("<f4", shape: shape, data: []))
  }

  @Test func rejectsTruncatedData() throws {
    try expectNpy(
      .truncated, "expected 24 bytes of data for float32 [2, 3], found 23",
      npy("<f4", shape: "(2, 3)", data: Array(repeating: 0, count: 23)))
    try expectNpy(.truncated, "expected 4 bytes of data for float32 []", npy("<f4", shape: "()", data: []))
    try expectNpy(
      .truncated, "expected 9223372036854775804 bytes",
      npy("<f4", shape: "(2305843009213693951,)", data: [0, 0, 0, 0]))
  }
}
