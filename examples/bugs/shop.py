"""What a small shop needs to know about prices."""


def subtotal(prices):
    """Return the sum of all prices."""
    total = 0
    for price in prices:
        total += price
    return total


def reduced(price, discount):
    """Return price lowered by discount percent."""
    return price + price * discount // 100


def shipping(total):
    """Return 0 if total is at least 50, else 5."""
    if total >= 50:
        return 0
    return 5


def cheapest(prices):
    """Return the smallest of prices."""
    return max(prices)
