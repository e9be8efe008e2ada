import unittest

from shop import cheapest, reduced, shipping, subtotal


class TestShop(unittest.TestCase):
    def test_subtotal(self):
        self.assertEqual(subtotal([5, 10, 20]), 35)

    def test_reduced(self):
        self.assertEqual(reduced(200, 25), 150)

    def test_shipping(self):
        self.assertEqual(shipping(20), 5)
        self.assertEqual(shipping(50), 0)

    def test_cheapest(self):
        self.assertEqual(cheapest([8, 3, 5]), 3)


if __name__ == "__main__":
    unittest.main()
