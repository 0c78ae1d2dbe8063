const crypto = require('crypto');

function is_good(request) {
    const token = request.headersIn['user-token'];
    const parts = token ? token.split('.') : [];
    if (parts.length !== 3) return 0;
    try {
        const header = JSON.parse(Buffer.from(parts[0], 'base64url').toString());
        const mac = crypto.createHmac('sha256', '@KEY@').update(parts[0] + '.' + parts[1]).digest('base64url');
        if (header.alg !== 'HS256' || mac !== parts[2]) return 0;
        const claims = JSON.parse(Buffer.from(parts[1], 'base64url').toString());
        return claims.exp > Date.now() / 1000 ? 1 : 0;
    } catch (error) {
        return 0;
    }
}

export default { is_good };
