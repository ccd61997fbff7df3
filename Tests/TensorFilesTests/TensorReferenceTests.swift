import BatchLossTensorFiles
import Testing

@Suite("TensorFiles: references")
struct TensorReferenceTests {
  @Test(arguments: [
    ("x.npy", "x.npy", nil),
    ("/a b/x.tar.npy", "/a b/x.tar.npy", nil),
    ("c:x.npy", "c:x.npy", nil),
    ("m.safetensors:logits", "m.safetensors", "logits"),
    ("./m.safetensors:a.b:c", "./m.safetensors", "a.b:c"),
    ("m.safetensors:x.npy", "m.safetensors", "x.npy"),
    ("m.safetensors:n.safetensors:t", "m.safetensors", "n.safetensors:t"),
    // A name that begins with a combining accent, which Swift joins with the colon to one character.
    ("m.safetensors:\u{301}e", "m.safetensors", "\u{301}e"),
  ])
  func parses(_ text: String, _ path: String, _ name: String?) throws {
    let reference = try TensorReference(parsing: text)
    #expect(reference.path == path)
    #expect(reference.tensorName == name)
    #expect(reference.description == text)
    #expect(reference == (name.map { .safetensors(path, tensor: $0) } ?? .npy(path)))
  }

  @Test(arguments: [
    ("", "expected PATH.npy"),
    ("x", "expected PATH.npy"),
    ("x.npz", "expected PATH.npy"),
    ("x.npy:t", "expected PATH.npy"),
    ("x.NPY", "expected PATH.npy"),
    ("x.safetensors", "needs the name"),
    ("x.safetensors:", "needs the name"),
  ])
  func rejects(_ text: String, _ message: String) {
    expect(.invalidReference, message) { _ = try TensorReference(parsing: text) }
    expect(.invalidReference, message) { _ = try MappedTensor(opening: text) }
  }
}
