"""A transport of httpx in place of the connection pool: tests script answers, and reach the stand-in, with httpx."""

from collections.abc import AsyncIterable, AsyncIterator

import httpcore
import httpx


class HttpxPool:
    """The connection pool that `Seams` takes. An error of httpx becomes the error of httpcore with the same name."""

    def __init__(self, inner: httpx.AsyncBaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        url = request.url
        assert isinstance(request.stream, AsyncIterable)
        asked = httpx.Request(
            request.method.decode(),
            httpx.URL(scheme=url.scheme.decode(), host=url.host.decode(), port=url.port, raw_path=url.target),
            headers=request.headers,
            stream=_Body(request.stream),
            extensions=request.extensions,
        )
        try:
            answer = await self._inner.handle_async_request(asked)
        except httpx.TransportError as error:
            raise getattr(httpcore, type(error).__name__)(str(error)) from error
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return httpcore.Response(answer.status_code, headers=answer.headers.raw, content=answer.stream)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Body(httpx.AsyncByteStream):
    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self._pieces:
            yield piece
