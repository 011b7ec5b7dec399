"""What an object hides from itself and sends back: visibility and bounces of distant light."""
