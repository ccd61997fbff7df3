// What is checked: that blocks are claimed once each, from a worker's own range as long as it lasts.
// Against: the ranges counted by hand, and all blocks.

import BatchLoss
import Dispatch
import Synchronization
import Testing

@Suite("Block claims")
struct BlockClaimsTests {
  @Test("A worker takes its own blocks in order, then those of others from the end")
  func order() {
    let claims = BlockClaims(capacity: 3)
    claims.offer(10, ranges: 3)
    // 0..<3, 3..<6 and 6..<10.
    #expect((0..<3).map { _ in claims.claim(seat: 1) } == [3, 4, 5])
    #expect(claims.claim(seat: 0) == 0)
    #expect(claims.claim(seat: 2) == 6)
    #expect((0..<6).map { _ in claims.claim(seat: 1) } == [9, 8, 7, 2, 1, nil])
    #expect(claims.claim(seat: 0) == nil)
    #expect(claims.claim(seat: 2) == nil)
  }

  @Test("One range is claimed in order by all")
  func oneRange() {
    let claims = BlockClaims(capacity: 3)
    claims.offer(5, ranges: 1)
    #expect([2, 0, 0, 1, 2, 1].map { claims.claim(seat: $0) } == [0, 1, 2, 3, 4, nil])
  }

  @Test("A seat beyond the workers shares a range")
  func manySeats() {
    let claims = BlockClaims(capacity: 2)
    claims.offer(4, ranges: 5)
    #expect([64, 3, 64, 3, 2].map { claims.claim(seat: $0) } == [0, 2, 1, 3, nil])
  }

  @Test("The same blocks at every offer, fewer blocks than workers and none")
  func repeated() {
    let claims = BlockClaims(capacity: 4)
    for count in [7, 2, 0, 7] {
      claims.offer(count, ranges: 4)
      var claimed: [Int] = []
      while let block = claims.claim(seat: 3) { claimed.append(block) }
      #expect(claimed.sorted() == Array(0..<count))
      #expect(claimed.first == (count == 7 ? 5 : count == 2 ? 1 : nil))
    }
  }

  @Test("Each block goes to one of many threads", arguments: [2, 5, 16])
  func threads(_ workers: Int) {
    let claims = BlockClaims(capacity: workers)
    for count in [1, 63, 1000] {
      let taken = Mutex([Int](repeating: 0, count: count))
      claims.offer(count, ranges: workers)
      DispatchQueue.concurrentPerform(iterations: workers) { seat in
        while let block = claims.claim(seat: seat) { taken.withLock { $0[block] += 1 } }
      }
      #expect(taken.withLock { $0 } == [Int](repeating: 1, count: count))
    }
  }
}
